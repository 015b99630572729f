// SDP offers written by hand, in the shape browsers send them, for clients that only signal.

const HEX = 'AB:'.repeat(31);

/** A well-formed fingerprint of no certificate at all. */
export const FINGERPRINT = `sha-256 ${HEX}AB`;
/** And of another one. */
export const OTHER_FINGERPRINT = `sha-256 ${HEX}CD`;

function head({ fingerprint, mids }) {
  return [
    'v=0',
    'o=- 4611731400430051336 2 IN IP4 127.0.0.1',
    's=-',
    't=0 0',
    `a=group:BUNDLE ${mids.join(' ')}`,
    'a=extmap-allow-mixed',
    'a=msid-semantic: WMS stream',
    ...(fingerprint ? [`a=fingerprint:${fingerprint}`] : []),
  ];
}

function section({ kind, mid, direction, ssrc, codecs, setup, ufrag, pwd }) {
  const types = codecs.map((codec) => codec.type).join(' ');
  return [
    `m=${kind} 9 UDP/TLS/RTP/SAVPF ${types}`,
    'c=IN IP4 0.0.0.0',
    'a=rtcp:9 IN IP4 0.0.0.0',
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${pwd}`,
    'a=ice-options:trickle',
    `a=setup:${setup}`,
    `a=mid:${mid}`,
    'a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01',
    'a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid',
    `a=${direction}`,
    ...(direction === 'sendonly' ? [`a=msid:stream ${kind}-track`] : []),
    'a=rtcp-mux',
    'a=rtcp-rsize',
    ...codecs.flatMap((codec) => [
      `a=rtpmap:${codec.type} ${codec.name}`,
      ...(codec.feedback ?? []).map((feedback) => `a=rtcp-fb:${codec.type} ${feedback}`),
      ...(codec.format ? [`a=fmtp:${codec.type} ${codec.format}`] : []),
    ]),
    ...(direction === 'sendonly' ? [`a=ssrc:${ssrc} cname:someone`, `a=ssrc:${ssrc} msid:stream ${kind}-track`] : []),
  ];
}

export const OPUS = { type: 111, name: 'opus/48000/2', format: 'minptime=10;useinbandfec=1', feedback: ['transport-cc'] };
export const VP8 = { type: 96, name: 'VP8/90000', feedback: ['goog-remb', 'transport-cc', 'ccm fir', 'nack', 'nack pli'] };
export const VP8_RTX = { type: 97, name: 'rtx/90000', format: 'apt=96' };
export const H264 = { type: 102, name: 'H264/90000', format: 'packetization-mode=1;profile-level-id=42e01f', feedback: ['nack', 'nack pli'] };
export const PCMU = { type: 0, name: 'PCMU/8000' };

/**
 * An offer. `audio` and `video` are codec lists (false: no section), `direction` `sendonly` for a publish and `recvonly`
 * for a subscribe. `edit` may spoil the lines.
 */
export function offer({
  audio = [OPUS],
  video = [VP8, VP8_RTX],
  direction = 'sendonly',
  fingerprint = FINGERPRINT,
  setup = 'actpass',
  ufrag = 'fR4g',
  pwd = 'aPasswordOfTwentyFourChr',
  edit = (lines) => lines,
} = {}) {
  const kinds = [...(audio ? [['audio', audio]] : []), ...(video ? [['video', video]] : [])];
  const mids = kinds.map((_, index) => String(index));
  const lines = [
    ...head({ fingerprint, mids }),
    ...kinds.flatMap(([kind, codecs], index) =>
      section({ kind, mid: mids[index], direction, ssrc: 1_000_001 + index, codecs, setup, ufrag, pwd }),
    ),
  ];
  return { type: 'offer', sdp: `${edit(lines).join('\r\n')}\r\n` };
}

export const MINFO = { audio: true, video: true, audiotype: 0, videotype: 0 };
export const AUDIO_ONLY = { audio: true, video: false, audiotype: 0, videotype: 0 };
