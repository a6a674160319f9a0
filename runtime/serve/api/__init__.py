"""The daemon's local socket: messages, shared memory, quotas, and what answers them. docs/api.md is for users of it."""
