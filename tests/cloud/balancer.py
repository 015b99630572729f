"""A balancer of TLS connections that does as one zone's part of AWS' network load balancer: it ends TLS, asks its targets for their health, and passes each
connection on with a header of the PROXY protocol, version 2: to the first that is healthy, which so is its own zone's.

    balancer.py ADDRESS CERT KEY TARGET…      each target an address; 8080 for connections, 9080 for health
"""

import asyncio
import ipaddress
import ssl
import sys

ADDRESS, CERT, KEY, *TARGETS = sys.argv[1:]
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
# Its own checks carry a header that names nobody.
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


def header(source, destination):
    four = [ipaddress.ip_address(host).packed for host in (source[0], destination[0])]
    addresses = b"".join(four) + source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    return SIGNATURE + b"\x21\x11" + len(addresses).to_bytes(2, "big") + addresses


healthy = set()


async def check(target):
    while True:
        ready = False
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(target, 9080, local_addr=(ADDRESS, 0)), 2)
            writer.write(LOCAL + b"GET /readyz HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
            ready = b" 200 " in await asyncio.wait_for(reader.readline(), 2)
            writer.close()
        except (OSError, asyncio.TimeoutError):
            pass
        (healthy.add if ready else healthy.discard)(target)
        await asyncio.sleep(0.5)


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(reader, writer):
    target = next((target for target in TARGETS if target in healthy), None)
    if target is None:
        return writer.close()
    try:
        there, back = await asyncio.open_connection(target, 8080, local_addr=(ADDRESS, 0))
    except OSError:
        return writer.close()
    back.write(header(writer.get_extra_info("peername"), (ADDRESS, 443)))
    await asyncio.gather(copy(reader, back), copy(there, writer))


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERT, KEY)
    server = await asyncio.start_server(serve, ADDRESS, 443, ssl=context)
    async with server:
        await asyncio.gather(*(check(target) for target in TARGETS))


asyncio.run(main())
