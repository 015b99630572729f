"""A peer on aiortc, told by JSON lines on stdin what to do; it answers each with one JSON line on stdout.

{"do": "offer", "kind": "publish" | "subscribe"} -> {"sdp": ...}
{"do": "answer", "sdp": ...}                      -> {}
{"do": "report"}                                  -> {"state", "sent", "pictures", "different", "sounds", "loud"}
It ends when stdin does.
"""

import asyncio
import fractions
import json
import math
import sys

import aioice.ice
from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from av import AudioFrame, VideoFrame

SAMPLE_RATE = 48_000
SLICE = 960

# aiortc leaves loopback out; a machine without any other network shall do for a test.
_host_addresses = aioice.ice.get_host_addresses
aioice.ice.get_host_addresses = lambda **kinds: ["127.0.0.1", *_host_addresses(**kinds)]


class Tone(AudioStreamTrack):
    """A sine of 440 Hz."""

    def __init__(self):
        super().__init__()
        self._at = 0
        self._started = None

    async def recv(self):
        loop = asyncio.get_event_loop()
        if self._started is None:
            self._started = loop.time()
        await asyncio.sleep(max(0, self._started + self._at / SAMPLE_RATE - loop.time()))
        frame = AudioFrame(format="s16", layout="mono", samples=SLICE)
        wave = (int(16_000 * math.sin(2 * math.pi * 440 * (self._at + i) / SAMPLE_RATE)) for i in range(SLICE))
        frame.planes[0].update(b"".join(sample.to_bytes(2, "little", signed=True) for sample in wave))
        frame.pts = self._at
        frame.sample_rate = SAMPLE_RATE
        frame.time_base = fractions.Fraction(1, SAMPLE_RATE)
        self._at += SLICE
        return frame


class Film(VideoStreamTrack):
    """A grey picture that brightens and starts over."""

    def __init__(self):
        super().__init__()
        self._number = 0

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        frame = VideoFrame(width=320, height=180, format="yuv420p")
        shade = 16 + (self._number * 8) % 208
        for plane, value in zip(frame.planes, (shade, 90, 200)):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts, frame.time_base = pts, time_base
        self._number += 1
        return frame


class Peer:
    def __init__(self):
        self._connection = RTCPeerConnection()
        self._tasks = []
        self._pictures = 0
        self._shades = set()
        self._sounds = 0
        self._loud = 0

    async def offer(self, kind):
        if kind == "publish":
            self._connection.addTrack(Tone())
            self._connection.addTrack(Film())
            for transceiver in self._connection.getTransceivers():
                transceiver.direction = "sendonly"
                if transceiver.kind == "video":
                    codecs = RTCRtpSender.getCapabilities("video").codecs
                    transceiver.setCodecPreferences([c for c in codecs if c.mimeType in ("video/VP8", "video/rtx")])
        else:
            self._connection.addTransceiver("audio", direction="recvonly")
            self._connection.addTransceiver("video", direction="recvonly")
            self._connection.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._consume(track))))
        await self._connection.setLocalDescription(await self._connection.createOffer())
        return {"sdp": self._connection.localDescription.sdp}

    async def answer(self, sdp):
        await self._connection.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="answer"))
        return {}

    async def report(self):
        sent = 0
        for entry in (await self._connection.getStats()).values():
            if entry.type == "outbound-rtp":
                sent += entry.packetsSent
        return {
            "state": self._connection.connectionState,
            "sent": sent,
            "pictures": self._pictures,
            "different": len(self._shades),
            "sounds": self._sounds,
            "loud": self._loud,
        }

    async def _consume(self, track):
        while True:
            frame = await track.recv()
            if track.kind == "video":
                self._pictures += 1
                plane = bytes(frame.planes[0])
                self._shades.add(hash(plane[:: 97]))
            else:
                self._sounds += 1
                data = bytes(frame.planes[0])
                loudest = max(abs(int.from_bytes(data[i : i + 2], "little", signed=True)) for i in range(0, len(data) - 1, 2))
                self._loud = max(self._loud, loudest)

    async def close(self):
        await self._connection.close()
        for task in self._tasks:
            task.cancel()


async def main():
    peer = Peer()
    loop = asyncio.get_event_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        wish = json.loads(line)
        if wish["do"] == "offer":
            answer = await peer.offer(wish["kind"])
        elif wish["do"] == "answer":
            answer = await peer.answer(wish["sdp"])
        else:
            answer = await peer.report()
        print(json.dumps(answer), flush=True)
    await peer.close()


asyncio.run(main())
