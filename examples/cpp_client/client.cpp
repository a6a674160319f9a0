// Asks a Headway daemon for an inference: libzmq and msgpack alone.
//
//     g++ -std=c++17 -O2 client.cpp -lzmq -lmsgpackc -o client
//     ./client /run/headway/headway.sock driving frame uint8 1,80,160,3 [DEADLINE_MS]
//
// Sends zeros of that shape, and prints which exit answered, where each segment ran, what was left of the deadline, and
// the first values of each output. Exit code 0: answered; 1: refused, with the code and the reason; 69: no answer came.

#include <msgpack.h>
#include <zmq.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int kNoAnswer = 69;
constexpr int kPatienceMs = 5000;
constexpr std::int64_t kMostBytes = std::int64_t{32} << 20;

const std::map<std::string, std::size_t> kBytes = {
    {"bool", 1},   {"int8", 1},   {"uint8", 1},  {"int16", 2},  {"uint16", 2},  {"float16", 2},
    {"int32", 4},  {"uint32", 4}, {"float32", 4}, {"int64", 8}, {"uint64", 8}, {"float64", 8}};

struct Tensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;

  std::size_t bytes() const {
    std::size_t size = kBytes.at(dtype);
    for (std::int64_t length : shape) size *= static_cast<std::size_t>(length);
    return size;
  }
};

// Writes msgpack maps; what the daemon does not know it refuses, so only what is meant is written.
class Header {
 public:
  Header() { msgpack_sbuffer_init(&buffer_); msgpack_packer_init(&packer_, &buffer_, msgpack_sbuffer_write); }
  ~Header() { msgpack_sbuffer_destroy(&buffer_); }
  Header(const Header&) = delete;
  Header& operator=(const Header&) = delete;

  void map(std::size_t fields) { msgpack_pack_map(&packer_, fields); }
  void list(std::size_t items) { msgpack_pack_array(&packer_, items); }
  void number(std::int64_t value) { msgpack_pack_int64(&packer_, value); }
  void text(const std::string& value) {
    msgpack_pack_str(&packer_, value.size());
    msgpack_pack_str_body(&packer_, value.data(), value.size());
  }
  const char* data() const { return buffer_.data; }
  std::size_t size() const { return buffer_.size; }

 private:
  msgpack_sbuffer buffer_;
  msgpack_packer packer_;
};

// Reads one field of a map; a field that is missing is nil.
msgpack_object field(const msgpack_object& map, const std::string& name) {
  if (map.type == MSGPACK_OBJECT_MAP) {
    for (std::uint32_t i = 0; i < map.via.map.size; ++i) {
      const msgpack_object& key = map.via.map.ptr[i].key;
      if (key.type == MSGPACK_OBJECT_STR && name == std::string(key.via.str.ptr, key.via.str.size))
        return map.via.map.ptr[i].val;
    }
  }
  msgpack_object nil{};
  nil.type = MSGPACK_OBJECT_NIL;
  return nil;
}

std::string text(const msgpack_object& value) {
  return value.type == MSGPACK_OBJECT_STR ? std::string(value.via.str.ptr, value.via.str.size) : std::string();
}

std::int64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{1000000000} * now.tv_sec + now.tv_nsec;
}

Tensor parse_tensor(char** words) {
  Tensor tensor{words[0], words[1], {}};
  if (kBytes.count(tensor.dtype) == 0) throw std::invalid_argument("dtype " + tensor.dtype + " is not known");
  std::stringstream sizes(words[2]);
  for (std::string size; std::getline(sizes, size, ',');) {
    tensor.shape.push_back(std::stoll(size));
    if (tensor.shape.back() < 1 || tensor.shape.back() > kMostBytes) throw std::invalid_argument("size " + size);
    if (tensor.bytes() > static_cast<std::size_t>(kMostBytes)) throw std::invalid_argument("more than 32 MiB");
  }
  return tensor;
}

void write_request(Header& header, const std::string& model, const Tensor& tensor, double deadline_ms) {
  header.map(deadline_ms > 0.0 ? 6 : 5);
  header.text("kind"), header.text("infer/1");
  header.text("id"), header.number(1);
  header.text("model"), header.text(model);
  header.text("sent_ns"), header.number(monotonic_ns());  // the deadline counts from here
  if (deadline_ms > 0.0) header.text("deadline_us"), header.number(static_cast<std::int64_t>(deadline_ms * 1e3));
  header.text("tensors"), header.list(1), header.map(3);
  header.text("name"), header.text(tensor.name);
  header.text("dtype"), header.text(tensor.dtype);
  header.text("shape"), header.list(tensor.shape.size());
  for (std::int64_t length : tensor.shape) header.number(length);
}

using Frame = std::vector<char>;

std::vector<Frame> receive(void* socket) {
  std::vector<Frame> frames;
  int more = 1;
  for (std::size_t length = sizeof more; more != 0; zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &length)) {
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, socket, 0) < 0) {
      zmq_msg_close(&message);
      return {};
    }
    const char* data = static_cast<const char*>(zmq_msg_data(&message));
    frames.emplace_back(data, data + zmq_msg_size(&message));
    zmq_msg_close(&message);
  }
  return frames;
}

void print_values(const std::string& name, const std::string& dtype, const Frame& data) {
  std::printf("%s:", name.c_str());
  if (dtype == "float32") {
    std::vector<float> values(data.size() / sizeof(float));
    std::memcpy(values.data(), data.data(), values.size() * sizeof(float));
    for (std::size_t i = 0; i < values.size() && i < 8; ++i) std::printf(" %g", static_cast<double>(values[i]));
  } else {
    std::printf(" %zu bytes of %s", data.size(), dtype.c_str());
  }
  std::printf("\n");
}

int print_answer(const msgpack_object& answer, const std::vector<Frame>& frames) {
  std::printf("exit: %s\n", text(field(answer, "exit_id")).c_str());
  const msgpack_object parts = field(answer, "parts");
  for (std::uint32_t i = 0; parts.type == MSGPACK_OBJECT_ARRAY && i < parts.via.array.size; ++i) {
    const msgpack_object& part = parts.via.array.ptr[i];
    std::printf("segment: %s on %s\n", text(field(part, "segment")).c_str(), text(field(part, "device")).c_str());
  }
  const msgpack_object left = field(answer, "time_left_us");
  if (left.type != MSGPACK_OBJECT_NIL) std::printf("time left: %.3f ms\n", 1e-3 * static_cast<double>(left.via.i64));
  const msgpack_object tensors = field(answer, "tensors");
  const std::uint32_t outputs = tensors.type == MSGPACK_OBJECT_ARRAY ? tensors.via.array.size : 0;
  for (std::uint32_t i = 0; i < outputs && i + 1 < frames.size(); ++i) {
    const msgpack_object& spec = tensors.via.array.ptr[i];
    print_values(text(field(spec, "name")), text(field(spec, "dtype")), frames[i + 1]);
  }
  return 0;
}

int ask(void* socket, const std::string& model, const Tensor& tensor, double deadline_ms) {
  Header header;
  write_request(header, model, tensor, deadline_ms);
  const Frame zeros(tensor.bytes());
  if (zmq_send(socket, header.data(), header.size(), ZMQ_SNDMORE) < 0 ||
      zmq_send(socket, zeros.data(), zeros.size(), 0) < 0) {
    std::fprintf(stderr, "nobody takes the request: %s\n", zmq_strerror(zmq_errno()));
    return kNoAnswer;
  }
  const std::vector<Frame> frames = receive(socket);
  if (frames.empty()) {
    std::fprintf(stderr, "no answer within %d ms\n", kPatienceMs);
    return kNoAnswer;
  }
  msgpack_unpacked unpacked;
  msgpack_unpacked_init(&unpacked);
  int code = kNoAnswer;
  if (msgpack_unpack_next(&unpacked, frames[0].data(), frames[0].size(), nullptr) == MSGPACK_UNPACK_SUCCESS) {
    const msgpack_object& reply = unpacked.data;
    if (text(field(reply, "kind")) == "answer/1") {
      code = print_answer(reply, frames);
    } else {
      std::fprintf(stderr, "%s: %s\n", text(field(reply, "code")).c_str(), text(field(reply, "error")).c_str());
      code = 1;
    }
  }
  msgpack_unpacked_destroy(&unpacked);
  return code;
}

}  // namespace

int main(int count, char** words) {
  if (count < 6) {
    std::fprintf(stderr, "usage: %s SOCKET MODEL INPUT DTYPE SHAPE [DEADLINE_MS]\n", words[0]);
    return 2;
  }
  Tensor tensor;
  double deadline_ms = 0.0;
  try {
    tensor = parse_tensor(words + 3);
    deadline_ms = count > 6 ? std::stod(words[6]) : 0.0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: must be INPUT DTYPE SHAPE, as frame uint8 1,80,160,3\n", error.what());
    return 2;
  }
  const int patience_ms = kPatienceMs, at_once = 0, immediate = 1;
  void* context = zmq_ctx_new();
  void* socket = zmq_socket(context, ZMQ_DEALER);
  zmq_setsockopt(socket, ZMQ_RCVTIMEO, &patience_ms, sizeof patience_ms);
  zmq_setsockopt(socket, ZMQ_SNDTIMEO, &patience_ms, sizeof patience_ms);
  zmq_setsockopt(socket, ZMQ_LINGER, &at_once, sizeof at_once);
  zmq_setsockopt(socket, ZMQ_IMMEDIATE, &immediate, sizeof immediate);
  int code = kNoAnswer;
  const std::string address = std::string("ipc://") + words[1];
  if (zmq_connect(socket, address.c_str()) == 0) code = ask(socket, words[2], tensor, deadline_ms);
  zmq_close(socket);
  zmq_ctx_term(context);
  return code;
}
