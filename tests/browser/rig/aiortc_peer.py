"""A peer on aiortc, told by JSON lines on stdin what to do; it answers each with one JSON line on stdout.

{"do": "offer", "kind": "publish" | "subscribe"} -> {"sdp": ...}
{"do": "answer", "sdp": ...}                      -> {}
{"do": "report"}                                  -> {"state", "states", "sent", "pictures", "different", "sounds",
                                                     "loud", "plis"}
{"do": "fir"}                                     -> {}: a full intra request for the video received, of which aiortc itself
                                                     never sends any
It ends when stdin does.
"""

import asyncio
import fractions
import json
import math
import struct
import sys

import aioice.ice
from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from aiortc.rtp import RTCP_PSFB_FIR, RtcpPsfbPacket
from av import AudioFrame, VideoFrame

SAMPLE_RATE = 48_000
SLICE = 960
# The numbered film, as sources.mjs has it.
WIDTH, HEIGHT, FRAMES_PER_SECOND, FRAMES, CELLS = 320, 180, 15, 64, 8
VIDEO_CLOCK = 90_000

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


def bars(number):
    """The luma of a line of the film's upper half: white, six bits of its number, black."""
    bits = [1, *(number >> bit & 1 for bit in range(CELLS - 3, -1, -1)), 0]
    return b"".join(bytes([235 if bit else 16]) * (WIDTH // CELLS) for bit in bits)


def read_bars(frame):
    """The number of a picture of the film; None if it is not the film."""
    plane = frame.planes[0]
    line = bytes(plane)[frame.height // 4 * plane.line_size :][: frame.width]
    cells = [line[(2 * cell + 1) * frame.width // (2 * CELLS)] for cell in range(CELLS)]
    if any(80 < luma < 175 for luma in cells) or cells[0] < 175 or cells[-1] >= 175:
        return None
    return sum((luma >= 175) << bit for bit, luma in enumerate(reversed(cells[1:-1])))


class Film(VideoStreamTrack):
    """The numbered film."""

    def __init__(self):
        super().__init__()
        self._number = 0
        self._started = None

    async def recv(self):
        loop = asyncio.get_event_loop()
        if self._started is None:
            self._started = loop.time()
        await asyncio.sleep(max(0, self._started + self._number / FRAMES_PER_SECOND - loop.time()))
        frame = VideoFrame(width=WIDTH, height=HEIGHT, format="yuv420p")
        luma, *colours = frame.planes
        line = bars(self._number % FRAMES).ljust(luma.line_size, b"\0")
        luma.update(line * (HEIGHT // 2) + b"\x80" * (luma.line_size * (HEIGHT - HEIGHT // 2)))
        for plane, value in zip(colours, (90, 200)):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts = self._number * VIDEO_CLOCK // FRAMES_PER_SECOND
        frame.time_base = fractions.Fraction(1, VIDEO_CLOCK)
        self._number += 1
        return frame


class Peer:
    def __init__(self):
        self._connection = RTCPeerConnection()
        self._states = [self._connection.connectionState]
        note = lambda: self._states.append(self._connection.connectionState)
        self._connection.on("connectionstatechange", note)
        self._tasks = []
        self._pictures = 0
        self._numbers = set()
        self._sounds = 0
        self._loud = 0
        self._plis = 0
        self._firs = 0

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
            self._count_plis(self._connection.addTransceiver("video", direction="recvonly").receiver)
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
            "states": self._states,
            "sent": sent,
            "pictures": self._pictures,
            "different": len(self._numbers),
            "sounds": self._sounds,
            "loud": self._loud,
            "plis": self._plis,
        }

    async def fir(self):
        receiver = next(r for r in self._connection.getReceivers() if r.track.kind == "video")
        for source in receiver.getSynchronizationSources():
            # RFC 5104, section 4.3.1: the header names no source, each entry does.
            entry = struct.pack(">LB3x", source.source, self._firs % 256)
            await receiver._send_rtcp(RtcpPsfbPacket(fmt=RTCP_PSFB_FIR, ssrc=1, media_ssrc=0, fci=entry))
        self._firs += 1
        return {}

    def _count_plis(self, receiver):
        send = receiver._send_rtcp_pli

        async def counted(media_ssrc):
            self._plis += 1
            await send(media_ssrc)

        receiver._send_rtcp_pli = counted

    async def _consume(self, track):
        while True:
            frame = await track.recv()
            if track.kind == "video":
                self._pictures += 1
                number = read_bars(frame)
                if number is not None:
                    self._numbers.add(number)
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
        elif wish["do"] == "fir":
            answer = await peer.fir()
        else:
            answer = await peer.report()
        print(json.dumps(answer), flush=True)
    await peer.close()


asyncio.run(main())
