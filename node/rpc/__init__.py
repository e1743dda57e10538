"""JSON-RPC 2.0 over HTTP, GET and WebSocket: how people and programs ask a running node."""
