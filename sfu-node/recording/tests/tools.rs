//! What programs that nobody here wrote make of the files: opusinfo, opusdec, ffprobe and ffmpeg. Sound and pictures are encoded by
//! ffmpeg when the test runs. Needs `opus-tools` and `ffmpeg`.

mod call;

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use call::{FRAME, Sent, Step, millis, random, record};
use ogg::PacketReader;
use recording::{Kind, SenderClock, recover};
use tempfile::TempDir;

/// Runs a program to its end.
fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}, of opus-tools or ffmpeg: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn name(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

/// `seconds` of 440 Hz on the left and 880 Hz on the right, as packets of 20 ms.
fn tones(dir: &TempDir, seconds: u64, bitrate: &str) -> Vec<Vec<u8>> {
    let path = dir.path().join("tones.ogg");
    let source = format!("aevalsrc=0.4*sin(2*PI*440*t)|0.4*sin(2*PI*880*t):s=48000:d={seconds}");
    let codec = ["-c:a", "libopus", "-b:a", bitrate, "-frame_duration", "20", "-application", "audio"];
    run("ffmpeg", &[&["-v", "error", "-y", "-f", "lavfi", "-i", &source], &codec[..], &[name(&path)]].concat());
    let mut reader = PacketReader::new(Cursor::new(fs::read(&path).expect("written")));
    let packets: Vec<_> = std::iter::from_fn(|| reader.read_packet().expect("whole")).collect();
    packets.into_iter().skip(2).take(seconds as usize * 50).map(|packet| packet.data).collect()
}

fn send(packets: Vec<Vec<u8>>) -> Vec<Sent> {
    let even = call::audio(packets.len() as u64 / 50);
    even.into_iter().zip(packets).map(|(sent, payload)| Sent { payload, ..sent }).collect()
}

/// `seconds` of 30 frames a second with a packet for every 1,100 bytes of a frame.
fn pictures(dir: &TempDir, seconds: u64) -> Vec<Sent> {
    let path = dir.path().join("pictures.ivf");
    let source = format!("testsrc=size=320x240:rate=30:duration={seconds}");
    let codec = ["-c:v", "libvpx", "-deadline", "realtime", "-b:v", "500k", "-g", "3000"];
    run("ffmpeg", &[&["-v", "error", "-y", "-f", "lavfi", "-i", &source], &codec[..], &[name(&path)]].concat());
    let file = fs::read(&path).expect("written");
    let (mut rest, mut sent, mut number) = (&file[32..], Vec::new(), 0_u64);
    while let Some((head, after)) = rest.split_first_chunk::<12>() {
        let len = u32::from_le_bytes(head[..4].try_into().expect("four")) as usize;
        let (frame, after) = after.split_at(len);
        rest = after;
        let parts: Vec<_> = frame.chunks(1_100).collect();
        for (part, bytes) in parts.iter().enumerate() {
            let picture = (number as u16 | 0x8000).to_be_bytes();
            let head = [if part == 0 { 0x90 } else { 0x80 }, 0x80, picture[0], picture[1]];
            sent.push(Sent {
                at: Duration::from_micros(number * 33_333 + 60_000 + part as u64 * 500),
                kind: Kind::Video,
                index: sent.len() as u64,
                timestamp: 1_000 + number as u32 * 3_000,
                source: 0,
                marker: part + 1 == parts.len(),
                payload: [&head, *bytes].concat(),
            });
        }
        number += 1;
    }
    sent
}

/// A directory with the recording's files in it.
fn recorded(steps: Vec<Step>, end: Duration, with_video: bool) -> (TempDir, Vec<PathBuf>) {
    let (summary, files) = record(steps, end, with_video);
    assert_eq!(summary.unclosed, None);
    let dir = tempfile::tempdir().expect("a directory");
    let paths = ["call.ogg", "call.webm"].map(|name| dir.path().join(name));
    for (file, path) in files.iter().zip(&paths) {
        fs::write(path, file.get_ref()).expect("written");
    }
    (dir, paths[..files.len()].to_vec())
}

/// opusinfo has nothing against the file; gives what it says.
fn is_sound(path: &Path) -> String {
    let output = run("opusinfo", &[name(path)]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(!said.contains("WARNING") && !said.contains("ERROR") && !said.to_lowercase().contains("hole"), "{said}");
    said
}

/// ffmpeg decodes all of the file without a complaint.
fn decodes(path: &Path) {
    let output = run("ffmpeg", &["-v", "warning", "-i", name(path), "-f", "null", "-"]);
    assert_eq!(text(&output.stderr), "", "{}", path.display());
}

fn ffprobe(path: &Path, entries: &str, more: &[&str]) -> String {
    let arguments = [&["-v", "error", "-of", "csv=p=0", "-show_entries", entries], more, &[name(path)]].concat();
    text(&run("ffprobe", &arguments).stdout)
}

fn duration(path: &Path) -> f64 {
    ffprobe(path, "format=duration", &[]).trim().parse::<f64>().expect("a number") * 1e3
}

/// Samples of the left and the right channel, by opusdec or by ffmpeg.
fn decoded(path: &Path, program: &str) -> Vec<[f64; 2]> {
    let wave = path.with_extension("wav");
    match program {
        "opusdec" => run("opusdec", &["--quiet", "--rate", "48000", name(path), name(&wave)]),
        _ => run("ffmpeg", &["-v", "error", "-y", "-i", name(path), "-vn", "-ac", "2", "-ar", "48000", name(&wave)]),
    };
    let file = fs::read(wave).expect("written");
    let data = file.windows(4).position(|chunk| chunk == b"data").expect("a wave file") + 8;
    let bytes = &file[data..];
    let sample = |bytes: &[u8]| f64::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32_768.0;
    bytes.chunks_exact(4).map(|pair| [sample(&pair[..2]), sample(&pair[2..])]).collect()
}

/// How much of a tone is in a channel (Goertzel).
fn level(samples: &[[f64; 2]], channel: usize, hertz: f64) -> f64 {
    let step = 2.0 * (std::f64::consts::TAU * hertz / 48_000.0).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in samples {
        (one, two) = (sample[channel] + step * one - two, one);
    }
    (one * one + two * two - step * one * two).sqrt() / samples.len() as f64 * 2.0
}

fn loudness(samples: &[[f64; 2]]) -> f64 {
    (samples.iter().map(|sample| sample[0] * sample[0]).sum::<f64>() / samples.len() as f64).sqrt()
}

fn has_tones_apart(samples: &[[f64; 2]], what: &str) {
    let levels =
        [(0, 440.0), (0, 880.0), (1, 440.0), (1, 880.0)].map(|(channel, hertz)| level(samples, channel, hertz));
    eprintln!(
        "{what}: left 440 {:.3}, 880 {:.3}; right 440 {:.3}, 880 {:.3}",
        levels[0], levels[1], levels[2], levels[3]
    );
    assert!(levels[0] > 0.2 && levels[3] > 0.2, "{what}: {levels:?}");
    assert!(levels[1] < levels[0] / 30.0 && levels[2] < levels[3] / 30.0, "{what}: {levels:?}");
}

#[test]
fn each_tone_is_on_its_own_channel_and_the_length_is_the_calls() {
    let dir = tempfile::tempdir().expect("a directory");
    let packets = send(tones(&dir, 60, "96k"));
    let (_files, paths) = recorded(packets.into_iter().map(Step::Packet).collect(), millis(60_000), false);
    let said = is_sound(&paths[0]);
    for tag in ["ROOM=r-1", "UID=u-1", "MID=m-1", "RECORDING=rec1", "DATE=2026-03-01T12:34:56.000Z", "AUDIO_LOST=0"] {
        assert!(said.contains(tag), "{tag} in {said}");
    }
    decodes(&paths[0]);
    for program in ["opusdec", "ffmpeg"] {
        let samples = decoded(&paths[0], program);
        let length = samples.len() as f64 / 48.0;
        eprintln!("{program}: {length} ms");
        assert!((length - 60_000.0).abs() <= 1.0);
        has_tones_apart(&samples[48_000..59 * 48_000], program);
    }
    assert!((duration(&paths[0]) - 60_000.0).abs() <= 10.0);
}

#[test]
fn what_is_lost_is_silent_or_concealed_and_costs_no_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut seed = 11;
    // 16 kbit/s a channel are SILK or hybrid, where what stands for a lost frame is another matter than in CELT.
    for bitrate in ["96k", "20k"] {
        let mut packets = send(tones(&dir, 20, bitrate));
        packets.retain(|sent| random(&mut seed, 20) != 0 && !(300..400).contains(&(sent.index - 1_000)));
        let (_files, paths) = recorded(packets.into_iter().map(Step::Packet).collect(), millis(20_000), true);
        is_sound(&paths[0]);
        for (path, program) in [(&paths[0], "opusdec"), (&paths[0], "ffmpeg"), (&paths[1], "ffmpeg")] {
            let samples = decoded(path, program);
            let length = samples.len() as f64 / 48.0;
            let (gap, before) =
                (loudness(&samples[48 * 6_300..48 * 7_900]), loudness(&samples[48 * 4_000..48 * 5_500]));
            let loudest = samples.iter().map(|sample| sample[0].abs()).fold(0.0, f64::max);
            eprintln!(
                "{bitrate} {program} {}: {length} ms, gap {gap:.4} of {before:.4}, loudest {loudest:.2}",
                path.display()
            );
            assert!((length - 20_000.0).abs() <= 20.0);
            assert!(gap < before / 100.0 && loudest < 0.9);
        }
    }
}

#[test]
fn files_a_killed_process_left_play_after_recovery() {
    let dir = tempfile::tempdir().expect("a directory");
    let steps: Vec<_> = send(tones(&dir, 10, "64k")).into_iter().chain(pictures(&dir, 10)).map(Step::Packet).collect();
    let begun = recording::Recording::new(
        &call::info(),
        Some((recording::AudioFormat { channels: 2 }, call::File::default())),
        Some((recording::VideoFormat::Vp8, call::File::default())),
    );
    let recording = call::run(begun.expect("memory"), steps, millis(10_000));
    for (file, name) in recording.sinks().zip(["left.ogg", "left.webm"]) {
        let path = dir.path().join(name);
        for cut in [0, 1, 777] {
            fs::write(&path, &file.get_ref()[..file.get_ref().len() - cut]).expect("written");
            let summary = recover(&path).expect("recovered");
            if name == "left.ogg" {
                is_sound(&path);
            }
            decodes(&path);
            eprintln!("{name} less {cut} bytes: {} ms by ffprobe, {:?}", duration(&path), summary.duration);
            assert!((duration(&path) - summary.duration.as_secs_f64() * 1e3).abs() < 50.0);
            assert!(summary.duration >= millis(8_000));
        }
    }
}

#[test]
fn picture_and_sound_are_together_by_sender_reports() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut video = pictures(&dir, 20);
    // The picture's way takes 150 ms more than the sound's.
    for sent in &mut video {
        sent.at += millis(150);
    }
    let clock = |at: u64, rtp| SenderClock { source: 0, ntp: (3_900_000_000 << 32) + (at << 32) / 1_000, rtp };
    let mut steps = Vec::new();
    for at in (1_000..20_000).step_by(1_000) {
        let of_audio = 3_000_000_000_u32.wrapping_add(at as u32 * 48);
        steps.push(Step::Clock(millis(at + 40), Kind::Audio, clock(at, of_audio)));
        steps.push(Step::Clock(millis(at + 60), Kind::Video, clock(at, 1_000 + at as u32 * 90)));
    }
    let frames = video.iter().filter(|sent| sent.marker).count();
    steps.extend(send(tones(&dir, 20, "64k")).into_iter().chain(video).map(Step::Packet));
    let (_files, paths) = recorded(steps, millis(20_300), true);
    decodes(&paths[1]);
    let times = ffprobe(&paths[1], "packet=pts_time", &["-select_streams", "v"]);
    let times: Vec<f64> = times.lines().filter_map(|line| line.trim().trim_end_matches(',').parse().ok()).collect();
    assert_eq!(times.len(), frames);
    let apart: Vec<_> = times.iter().enumerate().map(|(frame, at)| at * 1e3 - frame as f64 * 1e3 / 30.0).collect();
    let worst = apart[60..].iter().fold(0.0, |worst: f64, apart| worst.max(apart.abs()));
    eprintln!("picture after sound: first {:.1} ms, after 2 s at most {worst:.1} ms", apart[0]);
    assert!(worst < 10.0 && times.is_sorted());
    assert!((duration(&paths[1]) - 20_300.0).abs() < 5.0);
    let order = ffprobe(&paths[1], "packet=dts_time", &[]);
    let order: Vec<f64> = order.lines().filter_map(|line| line.trim().trim_end_matches(',').parse().ok()).collect();
    let back = order.windows(2).map(|pair| pair[0] - pair[1]).fold(0.0, f64::max);
    eprintln!("blocks lie at most {:.0} ms out of their order", back * 1e3);
    assert!(back < 0.3);
    let size = ffprobe(&paths[1], "stream=width,height,channels", &[]);
    assert!(size.contains("320,240") && size.contains('2'), "{size}");
}

#[test]
fn a_lost_frame_is_skipped_until_a_keyframe_and_nothing_before_it_is_broken() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut video = pictures(&dir, 4);
    let (frames, keyframe) = (video.iter().filter(|sent| sent.marker).count(), video[0].payload.clone());
    let lost = video.iter().position(|sent| sent.timestamp == 1_000 + 60 * 3_000).expect("frame 60");
    video.remove(lost);
    assert_eq!(keyframe[4] & 1, 0);
    let (summary, files) = record(video.into_iter().map(Step::Packet).collect(), millis(5_000), true);
    let track = &summary.tracks[1];
    eprintln!("{} of {frames} frames, {} undecodable", track.written, track.undecodable);
    assert_eq!((track.written, track.lost), (60, 1));
    assert!(track.undecodable >= frames as u64 - 61);
    let path = dir.path().join("lost.webm");
    fs::write(&path, files[1].get_ref()).expect("written");
    decodes(&path);
    assert_eq!(FRAME, 960);
}
