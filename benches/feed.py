#!/usr/bin/env python3
"""How long is it from a heartbeat's POST to its arrival at a subscriber of the live feed?

usage: benches/feed.py [HIVES] [SUBSCRIBERS] [SECONDS]

Starts a queen of its own, posts one heartbeat a second for each hive, and compares the clock at
POST, which stands in the heartbeat as its hostname, with the clock at arrival. The measuring shares
the processors with the queen, so the figures are an upper bound.
"""
import asyncio, json, os, re, subprocess, sys, tempfile, time

HIVES, STREAMS, SECONDS = (int(a) for a in (sys.argv[1:] + [100, 10, 20][len(sys.argv) - 1:]))
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


async def request(reader, writer, hive):
    body = json.dumps({"hive": {"id": hive, "hostname": f"{time.time():.6f}"}, "workers": [
        {"pid": n + 1, "group": "llm", "instance": str(8000 + n), "cpu_pct": 12.5} for n in range(16)]})
    writer.write((f"POST /v1/hive-heartbeat HTTP/1.1\r\nHost: queen\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
    sent = time.time()
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    length = int(re.search(rb"content-length: (\d+)", head).group(1))
    answer = json.loads(await reader.readexactly(length))
    SENT[answer["id"]] = sent


async def hive(number, port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    start = time.monotonic() + number / HIVES
    for tick in range(SECONDS):
        await asyncio.sleep(max(0, start + tick - time.monotonic()))
        await request(reader, writer, f"h{number}")
    writer.close()


async def stream(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(b"GET /v1/heartbeats/stream?snapshot=false HTTP/1.1\r\nHost: queen\r\n\r\n")
    buffer = b""
    while chunk := await reader.read(1 << 20):
        now = time.time()
        buffer += chunk
        for match in re.finditer(rb"\nid: (\d+)\n", buffer):
            ARRIVED.append((int(match.group(1)), now))
        buffer = buffer[-64:] if len(buffer) > 64 else buffer
        buffer = re.sub(rb"\nid: (\d+)\n", b"", buffer)


async def main(port):
    streams = [asyncio.create_task(stream(port)) for _ in range(STREAMS)]
    await asyncio.sleep(0.5)
    await asyncio.gather(*(hive(n, port) for n in range(HIVES)))
    await asyncio.sleep(0.5)
    for task in streams:
        task.cancel()


SENT, ARRIVED = {}, []
with tempfile.TemporaryDirectory() as work:
    queen = subprocess.Popen([f"{ROOT}/target/release/queen", "--db", f"{work}/queen.db", "--bind",
                              "127.0.0.1:0", "--local-hive=false"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(queen.stdout.readline().rsplit(":", 1)[1])
        asyncio.run(main(port))
    finally:
        queen.terminate()
        queen.wait(10)
took = sorted((at - SENT[i]) * 1000 for i, at in ARRIVED if i in SENT)
expected = HIVES * SECONDS * STREAMS
print(f"{HIVES} hives, {STREAMS} streams, {SECONDS} s: {len(took)} of {expected} events arrived; "
      f"POST to arrival p50 {took[len(took) // 2]:.2f} ms, p99 {took[len(took) * 99 // 100]:.2f} ms, max {took[-1]:.2f} ms")
sys.exit(len(took) != expected)
