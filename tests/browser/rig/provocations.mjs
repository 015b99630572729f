// Requests that must be refused, and with what. `owner` and `other` are two members of `rid`, where `owner` publishes
// `stream` and `other` has `subscription` to it; `other` is in the room `elsewhere`, too.

import { AUDIO_ONLY, H264, MINFO, OPUS, PCMU, offer } from './offers.mjs';

export const BAD_SDP = {
  empty: '',
  'not SDP': 'hello',
  'cut off': offer().sdp.slice(0, 300),
  'without a fingerprint': offer({ fingerprint: null }).sdp,
  'with an empty fingerprint': offer({ fingerprint: 'sha-256 ' }).sdp,
  'with a fingerprint of the wrong length': offer({ fingerprint: 'sha-256 AB:CD' }).sdp,
  'with an unknown hash': offer({ fingerprint: `md5 ${'AB:'.repeat(15)}AB` }).sdp,
  'without m-lines': offer({ audio: false, video: false }).sdp,
  'with 500 m-lines': offer({
    edit: (lines) => [...lines, ...Array.from({ length: 498 }, (_, mid) => ['m=audio 9 UDP/TLS/RTP/SAVPF 111', `a=mid:${mid + 2}`, 'a=sendonly']).flat()],
  }).sdp,
  'with codecs nobody here speaks': offer({ audio: [PCMU], video: [H264] }).sdp,
  'without ICE credentials': offer({ edit: (lines) => lines.filter((line) => !/ice-(ufrag|pwd)/.test(line)) }).sdp,
  'with a short ICE password': offer({ pwd: 'short' }).sdp,
  'that wants to be the DTLS server': offer({ setup: 'passive' }).sdp,
  'that is binary': '\u0000\u0001\u0002'.repeat(50),
  'with an endless line': `v=0\r\na=${'x'.repeat(100_000)}\r\n`,
  'with 20,000 lines': `v=0\r\n${'a=x\r\n'.repeat(20_000)}`,
  'with a payload type out of range': offer({ audio: [{ ...OPUS, type: 4711 }], video: false }).sdp,
};

const receiving = () => offer({ direction: 'recvonly' });
const MIDS = [undefined, null, 7, '', 'nobody#0000000000', 'x'.repeat(10_000), '#', "'; drop"];
const JSEPS = [
  undefined, null, 7, 'v=0', [], {}, { type: 'offer' }, { sdp: offer().sdp }, { type: 'answer', sdp: offer().sdp }, { type: 'offer', sdp: 7 },
];
const MINFOS = [undefined, null, 7, 'audio', [], { audio: 'yes', video: true }];
const CURSORS = ['', 'x', '[]', '["a"]', '["a/b",null]', '[null,""]', '[1,2]', 7, {}, [], true];

/** A method's requests from a room that one is not in. */
function fromOutside(rid, { stream, subscription }) {
  const requests = {
    leave: {}, keepalive: {}, broadcast: { data: 1 }, getusers: {}, getpubs: {},
    publish: { jsep: offer(), minfo: MINFO },
    unpublish: { mid: stream.mid },
    subscribe: { mid: stream.mid, jsep: receiving() },
    unsubscribe: { mid: stream.mid, sid: subscription.sid },
    mute: { mid: stream.mid, audio: true },
    restart: { mid: stream.mid, jsep: offer() },
  };
  return Object.entries(requests).map(([method, data]) => ['owner', method, { ...data, rid }]);
}

/** The errors that are shown elsewhere, for it takes more than a request to provoke them, and where. */
export const ELSEWHERE = {
  8: 'errors.test.mjs', 9: 'errors.test.mjs', 10: 'programs.test.mjs', 12: 'programs.test.mjs',
  401: 'errors.test.mjs', 403: 'errors.test.mjs', 429: 'errors.test.mjs',
};

/** Each: the error's code, what is wrong, and requests with it as `[who, method, data]`, made for a scene. */
export const PROVOCATIONS = [
  {
    code: -1, what: 'no such method',
    requests: ({ rid }) => ['sing', '', 'Join', 'configure', 'x'.repeat(10_000)].map((method) => ['owner', method, { rid }]),
  },
  {
    code: -1, what: 'no data, or none that is an object',
    requests: () => [undefined, null, 7, 'text', [], true].map((data) => ['owner', 'join', data]),
  },
  {
    code: -1, what: 'a broadcast of nothing',
    requests: ({ rid }) => [['owner', 'broadcast', { rid }]],
  },
  {
    code: 1, what: 'a cursor for users that was never given',
    requests: ({ rid }) => CURSORS.map((cursor) => ['owner', 'getusers', { rid, cursor }]),
  },
  {
    code: 2, what: 'no room, or a malformed one',
    requests: () => [undefined, null, 7, {}, '', 'a/b', 'a#b', 'a*b', 'a?b', 'a[b', 'a]b', 'a{b', 'a}b', 'a\nb', 'x'.repeat(129)].map((rid) => ['owner', 'join', { rid }]),
  },
  {
    code: 2, what: 'a room that this peer is not in',
    requests: (scene) => [undefined, 'not-in-it'].flatMap((rid) => fromOutside(rid, scene)),
  },
  {
    code: 3, what: 'a mid that is missing, unknown or malformed',
    requests: ({ rid }) => MIDS.flatMap((mid) => [
      ['other', 'subscribe', { rid, mid, jsep: receiving() }],
      ['other', 'mute', { rid, mid, audio: true }],
      ['other', 'unpublish', { rid, mid }],
      ['other', 'restart', { rid, mid, jsep: offer() }],
    ]),
  },
  {
    code: 3, what: "somebody else's mid, or one of another room",
    requests: ({ rid, elsewhere, stream: { mid } }) => [
      ['other', 'unpublish', { rid, mid }],
      ['other', 'mute', { rid, mid, audio: true }],
      ['other', 'restart', { rid, mid, jsep: offer() }],
      ['other', 'subscribe', { rid: elsewhere, mid, jsep: receiving() }],
    ],
  },
  {
    code: 3, what: 'a cursor for streams that was never given',
    requests: ({ rid }) => CURSORS.map((cursor) => ['owner', 'getpubs', { rid, cursor }]),
  },
  {
    code: 4, what: "a sid that is missing, malformed or somebody else's",
    requests: ({ rid, stream: { mid }, subscription: { sid } }) => [
      ...[undefined, null, 7, {}].map((wrong) => ['other', 'unsubscribe', { rid, mid, sid: wrong }]),
      ['owner', 'unsubscribe', { rid, mid, sid }],
      ['owner', 'restart', { rid, sid, jsep: receiving() }],
      ['other', 'restart', { rid, sid: 'other#0000000000', jsep: receiving() }],
    ],
  },
  {
    code: 5, what: 'a jsep that is missing or of the wrong type',
    requests: ({ rid, stream: { mid } }) => JSEPS.flatMap((jsep) => [
      ['owner', 'publish', { rid, jsep, minfo: MINFO }],
      ['other', 'subscribe', { rid, mid, jsep }],
      ['owner', 'restart', { rid, mid, jsep }],
    ]),
  },
  ...Object.entries(BAD_SDP).map(([what, sdp]) => ({
    code: 6, what: `SDP ${what}`,
    requests: ({ rid, stream: { mid } }) => [
      ['owner', 'publish', { rid, jsep: { type: 'offer', sdp }, minfo: MINFO }],
      ['other', 'subscribe', { rid, mid, jsep: { type: 'offer', sdp } }],
    ],
  })),
  {
    code: 7, what: 'a minfo that is missing, malformed or contradicts the SDP',
    requests: ({ rid }) => [
      ...MINFOS.map((minfo) => ['owner', 'publish', { rid, jsep: offer(), minfo }]),
      ['owner', 'publish', { rid, jsep: offer(), minfo: AUDIO_ONLY }],
      ['owner', 'publish', { rid, jsep: offer({ video: false }), minfo: MINFO }],
      ['owner', 'publish', { rid, jsep: offer(), minfo: { ...MINFO, audio: false, video: false } }],
    ],
  },
  {
    code: 7, what: 'a mute that is neither true nor false',
    requests: ({ rid, stream: { mid } }) => ['yes', 1, {}, []].map((audio) => ['owner', 'mute', { rid, mid, audio }]),
  },
  {
    code: 401, what: 'a refresh without a token',
    requests: () => [undefined, null, 7, {}, []].map((token) => ['owner', 'refresh', { access_token: token }]),
  },
  {
    code: 409, what: 'an op that was used for something else',
    requests: ({ rid, op }) => [['owner', 'publish', { rid, jsep: offer(), minfo: MINFO, op }]],
  },
  {
    code: 413, what: 'a frame or a field over its limit',
    requests: ({ rid }) => [
      ['owner', 'broadcast', { rid, data: 'x'.repeat(1_000_000) }],
      ['owner', 'broadcast', { rid, data: 'x'.repeat(200_000) }],
      ['owner', 'publish', { rid, jsep: offer(), minfo: { ...MINFO, label: 'x'.repeat(5_000) } }],
      ...['', 'x'.repeat(129), 7, {}].map((op) => ['owner', 'broadcast', { rid, data: 1, op }]),
    ],
  },
];
