"""A gRPC server without generated code: unary, both streams, trailers, an error. Ends with its standard input."""

import sys
from concurrent import futures

import grpc


def unary(data, context):
    context.set_trailing_metadata((("x-trailer", "at the end"),))
    return b"unary:" + data


def many(data, context):
    for i in range(5):
        yield b"%d:%b" % (i, data)


def both(messages, context):
    for data in messages:
        yield b"both:" + data


def collect(messages, context):
    return b"+".join(messages)


def fails(data, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")


class Handler(grpc.GenericRpcHandler):
    def service(self, about):
        return {
            "/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/test.Echo/Many": grpc.unary_stream_rpc_method_handler(many),
            "/test.Echo/Both": grpc.stream_stream_rpc_method_handler(both),
            "/test.Echo/Collect": grpc.stream_unary_rpc_method_handler(collect),
            "/test.Echo/Fails": grpc.unary_unary_rpc_method_handler(fails),
        }.get(about.method)


def main(address, certificate, key):
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Handler()])
    with open(certificate, "rb") as c, open(key, "rb") as k:
        credentials = grpc.ssl_server_credentials([(k.read(), c.read())])
    assert server.add_secure_port(address, credentials)
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
