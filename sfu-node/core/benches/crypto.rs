//! What one packet costs on its way through the core, part by part: protection, header, rewriting, replay check.
//!
//! `cargo bench -p sfu-core --bench crypto`. The whole way with sockets is measured elsewhere.

use std::{hint::black_box, time::Instant};

use criterion::{BenchmarkId, Criterion};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use sfu_core::{
    rewrite::Rewriter,
    rtp::{RtpHeader, RtpHeaderFields, write_header},
    srtp::{DtlsRole, Opener, ReplayWindow, Sealer, SrtpProfile, session_keys},
    twcc::TwccRecorder,
    vp8::Vp8Descriptor,
};

/// A full video packet, and 20 ms of Opus.
const PACKET_LENS: [usize; 2] = [1_100, 160];
const PROFILES: [(&str, SrtpProfile); 3] = [
    ("gcm-128", SrtpProfile::AeadAes128Gcm),
    ("gcm-256", SrtpProfile::AeadAes256Gcm),
    ("cm-sha1", SrtpProfile::Aes128CmSha1_80),
];
const FIELDS: RtpHeaderFields =
    RtpHeaderFields { marker: true, payload_type: 96, seq: 7, timestamp: 90_000, ssrc: 0x1234_5678 };

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    protection(&mut criterion);
    ring_alone(&mut criterion);
    headers(&mut criterion);
    rewriting(&mut criterion);
    reception(&mut criterion);
    criterion.final_summary();
}

/// Our sealer, and the opener that a client of ours would have.
fn keys(profile: SrtpProfile) -> (Opener, Sealer) {
    let exported: Vec<u8> = (0..profile.exported_len() as u8).collect();
    let (_, sealer) = session_keys(profile, &exported, DtlsRole::Server).expect("the profile's own length");
    let (opener, _) = session_keys(profile, &exported, DtlsRole::Client).expect("the profile's own length");
    (opener, sealer)
}

fn protection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("srtp");
    for (name, profile) in PROFILES {
        let (opener, sealer) = keys(profile);
        for len in PACKET_LENS {
            let mut buf = vec![0; len + profile.rtp_overhead()];
            let header_len = write_header(&mut buf, &FIELDS, &[]);
            group.bench_function(BenchmarkId::new(format!("seal-{name}"), len), |bencher| {
                let mut roc = 0_u32;
                bencher.iter(|| {
                    roc = roc.wrapping_add(1);
                    sealer.seal_rtp(roc, black_box(&mut buf), header_len, len)
                });
            });
            sealer.seal_rtp(9, &mut buf, header_len, len);
            let sealed = buf.clone();
            // With the copy that makes a sealed packet again for every turn.
            group.bench_function(BenchmarkId::new(format!("open-{name}"), len), |bencher| {
                bencher.iter(|| {
                    buf.copy_from_slice(black_box(&sealed));
                    opener.open_rtp(9, &mut buf, header_len).expect("sealed with the same keys")
                });
            });
        }
    }
}

/// The floor: the same bytes sealed by ring, with nothing around it.
fn ring_alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    let algorithms: [(&str, &'static Algorithm); 2] = [("gcm-128", &AES_128_GCM), ("gcm-256", &AES_256_GCM)];
    for (name, algorithm) in algorithms {
        let key = UnboundKey::new(algorithm, &vec![7; algorithm.key_len()]).expect("the algorithm's own length");
        let key = LessSafeKey::new(key);
        for len in PACKET_LENS {
            let mut buf = vec![0; len];
            group.bench_function(BenchmarkId::new(format!("seal-{name}"), len), |bencher| {
                bencher.iter(|| {
                    let (header, payload) = black_box(&mut buf).split_at_mut(12);
                    let nonce = Nonce::assume_unique_for_key([9; 12]);
                    key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload).expect("a short packet")
                });
            });
        }
    }
}

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rtp");
    let mut buf = [0; 64];
    group.bench_function("write-header", |bencher| {
        bencher.iter(|| write_header(black_box(&mut buf), black_box(&FIELDS), &[]));
    });
    group.bench_function("write-header-2-extensions", |bencher| {
        let extensions: [(u8, &[u8]); 2] = [(1, &[0x85]), (4, b"0")];
        bencher.iter(|| write_header(black_box(&mut buf), black_box(&FIELDS), black_box(&extensions)));
    });
    write_header(&mut buf, &FIELDS, &[(1, &[0x85]), (3, &[0, 7]), (4, b"0")]);
    group.bench_function("parse-header-and-find-extension", |bencher| {
        bencher.iter(|| {
            let packet = black_box(&buf[..]);
            let header = RtpHeader::parse(packet).expect("just written");
            (header.seq, header.extension(packet, 4).map(<[u8]>::len))
        });
    });
}

fn rewriting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rewrite");
    let now = Instant::now();
    group.bench_function("forward", |bencher| {
        let mut rewriter = Rewriter::new(48_000, 1, 1);
        let mut seq = 1_u64 << 16;
        bencher.iter(|| {
            seq += 1;
            rewriter.forward(now, black_box(seq), seq as u32, None)
        });
    });
    let mut payload = [0x90, 0xc0, 0x92, 0x34, 0x56, 0x01];
    let descriptor = Vp8Descriptor::parse(&payload).expect("a whole descriptor");
    group.bench_function("forward-vp8", |bencher| {
        let mut rewriter = Rewriter::new(90_000, 1, 1);
        let mut seq = 1_u64 << 16;
        bencher.iter(|| {
            seq += 1;
            let outgoing = rewriter.forward(now, black_box(seq), seq as u32, Some(&descriptor));
            let picture = outgoing.and_then(|outgoing| outgoing.picture).expect("in order, with a picture");
            descriptor.rewrite(black_box(&mut payload), picture);
        });
    });
    group.bench_function("look-up-for-nack", |bencher| {
        let mut rewriter = Rewriter::new(90_000, 0, 1);
        for seq in 0..2_000 {
            if seq % 50 == 49 {
                rewriter.skip(seq);
            } else {
                rewriter.forward(now, seq, 0, None);
            }
        }
        bencher.iter(|| rewriter.source_of(black_box(1_500)).expect("within reach"));
    });
}

fn reception(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("receive");
    group.bench_function("replay-window", |bencher| {
        let mut window = ReplayWindow::new();
        let mut seq = 0_u16;
        bencher.iter(|| {
            seq = seq.wrapping_add(1);
            let index = window.estimate(black_box(seq));
            let fresh = window.check(index);
            if fresh {
                window.commit(index);
            }
            fresh
        });
    });
    group.bench_function("twcc-record", |bencher| {
        let now = Instant::now();
        let mut recorder = TwccRecorder::new(now);
        let mut seq = 0_u16;
        bencher.iter(|| {
            seq = seq.wrapping_add(1);
            recorder.record(black_box(seq), now);
        });
    });
}
