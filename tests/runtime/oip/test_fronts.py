"""The unmodified tritonclient against the daemon: what it can ask and what it is told, over HTTP and gRPC alike."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import numpy as np
import pytest

from devices.tensor import Array
from runtime.serve.oip.errors import Cause
from tests.processes import wait_for
from tests.runtime.oip.clients import ENDLESS, Client, GrpcClient, HttpClient, Served, given_grpc, grpc, http

A = np.arange(12, dtype=np.float32).reshape(4, 3)
B = np.array([1.0, 10.0, 100.0], np.float32)
N = np.array([2**40, -3], np.int64)
SUMS: dict[str, Array] = {"a": A, "b": B, "n": N}
IMAGE = np.random.default_rng(1).random((2, 3, 16, 16), np.float32)


def plain(told: Any) -> Any:
    """Return what a client was told as dictionaries, from either transport."""
    if isinstance(told, (dict, list)):
        return told
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped, unused-ignore]

    return MessageToDict(told, preserving_proto_field_name=True)


def test_it_is_alive_ready_and_says_what_it_can(client: Client) -> None:
    assert client.raw.is_server_live()
    assert client.raw.is_server_ready()
    told = plain(client.raw.get_server_metadata())
    assert told["name"] == "headway"
    assert {"binary_tensor_data", "statistics", "model_repository", "headway"} <= set(told["extensions"])


def test_a_model_is_ready_where_it_is_served(client: Client) -> None:
    assert client.raw.is_model_ready("sums")
    assert client.raw.is_model_ready("echo", "2")
    assert not client.raw.is_model_ready("echo", "1")
    assert not client.raw.is_model_ready("nothing")


def test_a_model_tells_its_tensors_and_versions(client: Client) -> None:
    told = plain(client.raw.get_model_metadata("sums", "1"))
    assert told["versions"] == ["1"]
    assert [(each["name"], each["datatype"]) for each in told["inputs"]] == [
        ("a", "FP32"),
        ("b", "FP32"),
        ("n", "INT64"),
    ]
    assert [int(size) for size in told["inputs"][0]["shape"]] == [-1, 3]
    assert [each["name"] for each in told["outputs"]] == ["sum", "difference", "twice"]


def test_the_configuration_tells_types_and_exits(client: Client) -> None:
    told = plain(client.raw.get_model_config("toy"))
    config = told.get("config", told)
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert [int(size) for size in config["input"][0]["dims"]] == [-1, 3, 16, 16]
    exits = json.loads(config["parameters"]["exits"]["string_value"])
    assert [each["id"] for each in exits] == ["exit1", "exit2", "exit3"]
    assert exits[0]["outputs"] == ["answer1", "confidence1"]


def test_several_inputs_and_outputs_and_the_id_come_back(client: Client) -> None:
    answer = client.infer("sums", SUMS, request_id="number 7")
    np.testing.assert_array_equal(answer.outputs["sum"], A + B)
    np.testing.assert_array_equal(answer.outputs["difference"], A - B)
    np.testing.assert_array_equal(answer.outputs["twice"], 2 * N)
    assert answer.id == "number 7"


def test_only_the_outputs_asked_for_come_back(client: Client) -> None:
    answer = client.infer("sums", SUMS, ["twice", "sum"])
    assert sorted(answer.outputs) == ["sum", "twice"]
    np.testing.assert_array_equal(answer.outputs["sum"], A + B)


def test_an_empty_id_stays_empty(client: Client) -> None:
    assert client.infer("echo", {"x": B}).id == ""


def test_the_answer_says_which_exit_where_and_how_much_time_is_left(client: Client) -> None:
    answer = client.infer("toy", {"image": IMAGE}, timeout=5_000_000, priority=1)
    assert sorted(answer.outputs) == ["answer3", "confidence3"]
    told = answer.parameters
    assert told["exit_id"] == "exit3"
    assert told["ending"] == "complete"
    assert 0 < told["time_left_us"] < 5_000_000
    assert 0.0 < told["confidence"] < 1.0
    parts = json.loads(told["parts"])
    assert [part["segment"] for part in parts][-1] == "head3"
    assert {part["device"] for part in parts} == {"cpu"}


def test_without_a_timeout_no_time_left_is_told(client: Client) -> None:
    assert "time_left_us" not in client.infer("echo", {"x": B}).parameters


def test_the_least_exit_is_a_parameter(client: Client) -> None:
    answer = client.infer("toy", {"image": IMAGE}, parameters={"least_exit": "exit3", "my_own": 1.5})
    assert [part["segment"] for part in json.loads(answer.parameters["parts"])][-1] == "head3"
    assert not any(part["segment"] == "head1" for part in json.loads(answer.parameters["parts"]))


def test_asking_for_outputs_of_an_exit_asks_for_that_exit(client: Client) -> None:
    answer = client.infer("toy", {"image": IMAGE}, ["confidence3"])
    assert list(answer.outputs) == ["confidence3"]


WRONG: list[tuple[str, str, dict[str, Array], list[str] | None, dict[str, Any], Cause, str]] = [
    ("unknown model", "nothing", {"x": B}, None, {}, Cause.NOT_FOUND, "'nothing' is not loaded"),
    ("unknown version", "echo", {"x": B}, None, {"model_version": "9"}, Cause.NOT_FOUND, "version '9' is not loaded"),
    ("wrong shape", "sums", {**SUMS, "a": A.T}, None, {}, Cause.INVALID, r"shape \(3, 4\): must be \('N', 3\)"),
    ("wrong datatype", "echo", {"x": N}, None, {}, Cause.INVALID, "dtype int64: must be float32"),
    ("strings", "echo", {"x": np.array([b"a"], np.object_)}, None, {}, Cause.INVALID, "datatype 'BYTES'"),
    ("missing input", "sums", {"a": A}, None, {}, Cause.INVALID, r"lacks \['b', 'n'\]"),
    ("unknown input", "echo", {"x": B, "z": B}, None, {}, Cause.INVALID, r"unknown \['z'\]"),
    ("unknown output", "sums", SUMS, ["product"], {}, Cause.INVALID, "'product'"),
    ("not finite", "echo", {"x": B * np.nan}, None, {}, Cause.INVALID, "must be finite"),
    ("priority", "echo", {"x": B}, None, {"priority": 10}, Cause.INVALID, "from 0 to 9"),
    ("timeout", "echo", {"x": B}, None, {"timeout": -1}, Cause.INVALID, "parameter timeout = -1"),
    ("sequence", "echo", {"x": B}, None, {"sequence_id": 3}, Cause.UNSUPPORTED, "sequence_id"),
    ("least exit", "toy", {"image": IMAGE}, None, {"parameters": {"least_exit": "e"}}, Cause.INVALID, "no exit 'e'"),
]


@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "options", "cause", "message"),
    [each[1:] for each in WRONG],
    ids=[each[0] for each in WRONG],
)
def test_what_gets_no_answer_ends_with_its_status_and_why(
    client: Client,
    model: str,
    inputs: dict[str, Array],
    outputs: list[str] | None,
    options: dict[str, Any],
    cause: Cause,
    message: str,
) -> None:
    with pytest.raises(http.InferenceServerException, match=message) as caught:
        client.infer(model, inputs, outputs, **options)
    assert client.code(caught.value) == (str(cause.http) if isinstance(client, HttpClient) else cause.grpc)


def test_a_deadline_that_is_too_short_is_refused_with_what_is_needed(client: Client) -> None:
    refusals: list[Exception] = []

    def refused() -> bool:
        """Ask, and return whether the request was looked at before its deadline: a busy machine may take longer."""
        with pytest.raises(http.InferenceServerException) as caught:
            client.infer("busy", {"rounds": 0 * ENDLESS}, timeout=4000)
        refusals.append(caught.value)
        return "had passed" not in str(caught.value)

    wait_for(refused)
    assert "are needed" in str(refusals[-1])
    cause = Cause.EXHAUSTED
    assert client.code(refusals[-1]) == (str(cause.http) if isinstance(client, HttpClient) else cause.grpc)


def test_a_deadline_that_falls_in_mid_run_is_told(client: Client) -> None:
    timeout_us = 150_000
    while True:
        with pytest.raises(http.InferenceServerException) as caught:
            client.infer("busy", {"rounds": ENDLESS}, timeout=timeout_us)
        if "are needed" not in str(caught.value) and "had passed" not in str(caught.value):
            break
        timeout_us *= 2  # the machine was busy, now or while the model was measured
    assert "deadline fell" in str(caught.value)
    cause = Cause.DEADLINE
    assert client.code(caught.value) == (str(cause.http) if isinstance(client, HttpClient) else cause.grpc)


def test_statistics_count_answers_and_failures(client: Client) -> None:
    def seen() -> Any:
        return plain(client.raw.get_inference_statistics("sums"))["model_stats"][0]

    before = seen()
    client.infer("sums", SUMS)
    with pytest.raises(http.InferenceServerException):
        client.infer("sums", {"a": A})
    wait_for(lambda: int(seen().get("execution_count", 0)) > int(before.get("execution_count", 0)))
    after = seen()
    gained = int(after["inference_count"]) - int(before.get("inference_count", 0))
    assert gained == 4  # samples: the first size of the first input
    spent = after["inference_stats"]["compute_infer"]
    assert int(spent["ns"]) > 0
    assert int(spent["count"]) == int(after["execution_count"])


def test_statistics_of_all_models_are_there(client: Client) -> None:
    told = plain(client.raw.get_inference_statistics())["model_stats"]
    assert {each["name"] for each in told} == {"sums", "echo", "toy", "busy"}


def test_loading_is_refused_unless_it_is_allowed(client: Client) -> None:
    index = plain(client.raw.get_model_repository_index())
    models = index["models"] if isinstance(index, dict) else index
    assert ("echo", "1", "UNAVAILABLE") in {(each["name"], each["version"], each["state"]) for each in models}
    for change in (client.raw.load_model, client.raw.unload_model):
        with pytest.raises(http.InferenceServerException, match=r"front\.model_control") as caught:
            change("echo")
        assert client.code(caught.value) in ("403", "PERMISSION_DENIED")


def test_json_goes_both_ways(served: Served) -> None:
    with_json = HttpClient(served)
    answer = with_json.infer("sums", SUMS, ["sum", "twice"], binary=False)
    np.testing.assert_array_equal(answer.outputs["sum"], A + B)
    np.testing.assert_array_equal(answer.outputs["twice"], 2 * N)
    with_json.raw.close()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [100, 200_000])
def test_bodies_are_packed_where_it_is_asked(served: Served, algorithm: str, size: int) -> None:
    x = np.zeros(size, np.float32)
    client = HttpClient(served)
    answer = client.infer(
        "echo", {"x": x}, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
    )
    np.testing.assert_array_equal(answer.outputs["y"], x)
    client.raw.close()


def test_grpc_packs_too(served: Served) -> None:
    client = GrpcClient(served)
    x = np.zeros(200_000, np.float32)
    np.testing.assert_array_equal(client.infer("echo", {"x": x}, compression_algorithm="gzip").outputs["y"], x)
    client.raw.close()


def test_a_large_tensor_comes_back_as_it_went(client: Client) -> None:
    x = np.random.default_rng(3).random(3_000_000, np.float32)
    np.testing.assert_array_equal(client.infer("echo", {"x": x}).outputs["y"], x)


@pytest.fixture
def grpc_client(served: Served) -> Iterator[GrpcClient]:
    client = GrpcClient(served)
    yield client
    client.raw.close()


def failures(client: GrpcClient) -> int:
    told = plain(client.raw.get_inference_statistics("busy"))["model_stats"][0]
    return int(told["inference_stats"]["fail"].get("count", 0))


def test_a_call_that_its_client_gives_up_is_stopped(grpc_client: GrpcClient) -> None:
    before = failures(grpc_client)
    with pytest.raises(http.InferenceServerException, match=r"(?i)deadline") as caught:
        grpc_client.infer("busy", {"rounds": ENDLESS}, client_timeout=1.5)
    assert grpc_client.code(caught.value) == "DEADLINE_EXCEEDED"
    wait_for(lambda: failures(grpc_client) > before)


def test_a_cancelled_call_is_stopped(grpc_client: GrpcClient) -> None:
    before = failures(grpc_client)
    ended: Queue[Any] = Queue()
    call = grpc_client.raw.async_infer("busy", given_grpc({"rounds": ENDLESS}), lambda result, error: ended.put(error))
    assert grpc_client.raw.is_server_live()  # on the same connection, so the first call has begun
    call.cancel()
    assert "CANCELLED" in str(ended.get(timeout=10.0).status())
    wait_for(lambda: failures(grpc_client) > before)


def test_a_stream_answers_one_request_after_the_other(grpc_client: GrpcClient) -> None:
    answers: Queue[Any] = Queue()
    grpc_client.raw.start_stream(lambda result, error: answers.put((result, error)))
    for model in ("echo", "nothing", "echo"):
        grpc_client.raw.async_stream_infer(model, given_grpc({"x": B}))
    first, refused, last = (answers.get(timeout=10.0) for _ in range(3))
    np.testing.assert_array_equal(first[0].as_numpy("y"), B)
    assert refused[0] is None
    assert "'nothing' is not loaded" in str(refused[1])
    np.testing.assert_array_equal(last[0].as_numpy("y"), B)
    grpc_client.raw.stop_stream()


def test_numbers_in_a_message_are_read_too(grpc_client: GrpcClient) -> None:
    pb = grpc.service_pb2
    asked = pb.ModelInferRequest(model_name="sums")
    for name, array, datatype in (("a", A, "FP32"), ("b", B, "FP32"), ("n", N, "INT64")):
        tensor = asked.inputs.add(name=name, datatype=datatype, shape=array.shape)
        field = tensor.contents.int64_contents if datatype == "INT64" else tensor.contents.fp32_contents
        field.extend(array.ravel().tolist())
    told = grpc_client.raw._client_stub.ModelInfer(asked)
    np.testing.assert_array_equal(np.frombuffer(told.raw_output_contents[0], np.float32).reshape(4, 3), A + B)


def test_what_is_not_served_is_said_so(client: Client) -> None:
    with pytest.raises(http.InferenceServerException) as caught:
        client.raw.get_system_shared_memory_status()
    assert client.code(caught.value) in ("404", "UNIMPLEMENTED")


def test_the_asyncio_clients_work_too(served: Served) -> None:
    import tritonclient.grpc.aio as grpc_aio  # type: ignore[import-untyped, unused-ignore]
    import tritonclient.http.aio as http_aio  # type: ignore[import-untyped, unused-ignore]

    async def ask(module: Any, address: str) -> Any:
        async with module.InferenceServerClient(address) as client:
            x = module.InferInput("x", B.shape, "FP32")
            x.set_data_from_numpy(B)
            results = await asyncio.gather(*(client.infer("echo", [x], request_id=str(k)) for k in range(8)))
            return [result.as_numpy("y") for result in results]

    for module, address in ((http_aio, served.http), (grpc_aio, served.grpc)):
        for y in asyncio.run(ask(module, address)):
            np.testing.assert_array_equal(y, B)


def test_many_clients_at_once_get_their_own_answers(served: Served) -> None:
    def ask(number: int) -> bool:
        client = HttpClient(served) if number % 2 else GrpcClient(served)
        x = np.full(20_000 + number, number, np.float32)
        rights = [np.array_equal(client.infer("echo", {"x": x}).outputs["y"], x) for _ in range(10)]
        client.raw.close()
        return all(rights)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(16)))
