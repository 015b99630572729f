import assert from "node:assert/strict";
import { test } from "node:test";
import { STEREO_PUBLISHER, STEREO_SUBSCRIBER, withOpusParameters, withStartBitrate } from "../src/sdp.ts";

const lines = (...text: string[]) => `${text.join("\r\n")}\r\n`;

const OFFER = lines(
  "v=0",
  "o=- 1 2 IN IP4 127.0.0.1",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111 63",
  "a=rtpmap:111 opus/48000/2",
  "a=rtcp-fb:111 transport-cc",
  "a=fmtp:111 minptime=10;useinbandfec=1",
  "a=rtpmap:63 red/48000/2",
  "a=fmtp:63 111/111",
  "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
  "a=rtpmap:96 VP8/90000",
  "a=rtpmap:97 rtx/90000",
  "a=fmtp:97 apt=96",
);

test("stereo is added to what Opus has, and to nothing else", () => {
  assert.equal(
    withOpusParameters(OFFER, STEREO_PUBLISHER),
    OFFER.replace("useinbandfec=1", "useinbandfec=1;stereo=1;sprop-stereo=1"),
  );
});

test("a parameter that is there is set, not doubled", () => {
  const offer = lines(
    "m=audio 9 RTP 109",
    "a=rtpmap:109 opus/48000/2",
    "a=fmtp:109 stereo=0;maxplaybackrate=48000",
  );
  assert.equal(
    withOpusParameters(offer, STEREO_SUBSCRIBER),
    lines("m=audio 9 RTP 109", "a=rtpmap:109 opus/48000/2", "a=fmtp:109 stereo=1;maxplaybackrate=48000"),
  );
});

test("setting it twice changes nothing more", () => {
  const once = withOpusParameters(OFFER, STEREO_SUBSCRIBER);
  assert.equal(withOpusParameters(once, STEREO_SUBSCRIBER), once);
});

test("Opus without parameters gets a line of its own, right after its rtpmap", () => {
  const offer = lines("m=audio 9 RTP 111", "a=rtpmap:111 opus/48000/2", "a=mid:0");
  assert.equal(
    withOpusParameters(offer, STEREO_SUBSCRIBER),
    lines("m=audio 9 RTP 111", "a=rtpmap:111 opus/48000/2", "a=fmtp:111 stereo=1", "a=mid:0"),
  );
});

test("line ends without carriage return stay so", () => {
  const offer = "m=audio 9 RTP 111\na=rtpmap:111 opus/48000/2\na=mid:0\n";
  assert.equal(
    withOpusParameters(offer, STEREO_SUBSCRIBER),
    "m=audio 9 RTP 111\na=rtpmap:111 opus/48000/2\na=fmtp:111 stereo=1\na=mid:0\n",
  );
});

test("every audio section is changed, each with its own payload type", () => {
  const two = lines(
    "m=audio 9 RTP 111",
    "a=rtpmap:111 opus/48000/2",
    "m=audio 9 RTP 96",
    "a=rtpmap:96 OPUS/48000/2",
  );
  const changed = withOpusParameters(two, STEREO_SUBSCRIBER);
  assert.match(changed, /a=fmtp:111 stereo=1/);
  assert.match(changed, /a=fmtp:96 stereo=1/);
});

test("a session without audio stays as it is, and so does no session at all", () => {
  const video = lines("v=0", "m=video 9 RTP 96", "a=rtpmap:96 VP8/90000");
  assert.equal(withOpusParameters(video, STEREO_SUBSCRIBER), video);
  assert.equal(withOpusParameters("", STEREO_SUBSCRIBER), "");
});

test("a start bitrate goes to VP8 alone, in kbit/s", () => {
  assert.equal(
    withStartBitrate(OFFER, 900.4),
    OFFER.replace("VP8/90000\r\n", "VP8/90000\r\na=fmtp:96 x-google-start-bitrate=900\r\n"),
  );
});
