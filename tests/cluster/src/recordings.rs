//! What was recorded, as it was delivered: manifests and the files they name, judged by programs that know nothing of Sluice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use servers::S3;
use tokio::time::sleep;

/// Between two looks at what has been delivered.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Opus' clock.
const SAMPLE_RATE: u64 = 48_000;

/// Where recordings are delivered to.
#[derive(Debug)]
pub enum Place<'a> {
    /// `file://`.
    Directory(&'a Path),
    /// `s3://`; what is looked at is copied to the directory first.
    Store(&'a S3, &'a Path),
}

/// A manifest, and where the files are that it names.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The manifest.
    pub manifest: Value,
    /// The directory of the manifest.
    pub directory: PathBuf,
}

/// A track's packets, as a manifest counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// In the file.
    pub written: u64,
    /// Sent, and not in the file: they never came, came too late, or could not be taken.
    pub lost: u64,
    /// Of these, those that could not be taken.
    pub dropped: u64,
    /// Not what they say they are, and not in the file.
    pub invalid: u64,
}

impl Place<'_> {
    /// Waits until so many manifests are there, and gives them.
    pub async fn delivered(&self, count: usize, within: Duration) -> anyhow::Result<Vec<Delivered>> {
        let deadline = Instant::now() + within;
        loop {
            let found = self.manifests().await?;
            if found.len() >= count {
                anyhow::ensure!(found.len() == count, "{} recordings, and not {count}: {found:#?}", found.len());
                return Ok(found);
            }
            anyhow::ensure!(Instant::now() < deadline, "{} of {count} recordings after {within:?}", found.len());
            sleep(LOOK_EVERY).await;
        }
    }

    /// What has been delivered by now.
    pub async fn manifests(&self) -> anyhow::Result<Vec<Delivered>> {
        let directory = match self {
            Self::Directory(directory) => *directory,
            Self::Store(store, directory) => {
                fetch(store, directory).await?;
                *directory
            }
        };
        files(directory)?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .map(|path| {
                let manifest = serde_json::from_slice(&fs::read(&path)?)?;
                let directory = path.parent().context("a file has a directory")?.to_owned();
                Ok(Delivered { manifest, directory })
            })
            .collect()
    }
}

/// Copies what is in the store and not here yet.
async fn fetch(store: &S3, directory: &Path) -> anyhow::Result<()> {
    for key in store.keys().await {
        let path = directory.join(&key);
        if !path.exists() {
            let content = store.object(&key).await.with_context(|| format!("no object {key}"))?;
            fs::create_dir_all(path.parent().context("it is below the directory")?)?;
            fs::write(path, content)?;
        }
    }
    Ok(())
}

/// All files below a directory that are no business of the spool's, sorted.
pub fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    // The spool of `sluice --recordings`, and files on their way.
    found.retain(|path| !path.strip_prefix(directory).is_ok_and(is_hidden));
    found.sort();
    Ok(found)
}

fn is_hidden(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().starts_with('.'))
}

impl Delivered {
    /// A text of the manifest.
    pub fn text(&self, key: &str) -> &str {
        self.manifest[key].as_str().unwrap_or_default()
    }

    /// How long it is, by the manifest.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.manifest["duration_ms"].as_u64().unwrap_or_default())
    }

    /// The packets of its track of this kind.
    pub fn counts(&self, kind: &str) -> anyhow::Result<Counts> {
        let mut tracks = self.manifest["tracks"].as_array().into_iter().flatten();
        let track = tracks.find(|track| track["kind"] == kind);
        let track = track.with_context(|| format!("no {kind} in {}", self.manifest))?;
        let count = |key: &str| track[key].as_u64().with_context(|| format!("no {key} in {track}"));
        let (written, lost) = (count("written")?, count("lost")?);
        Ok(Counts { written, lost, dropped: count("dropped")?, invalid: count("invalid")? })
    }

    /// The files that it names, which are there, as long as it says and with the checksum that it says.
    pub fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let named = self.manifest["files"].as_array().context("it names files")?;
        named.iter().map(|file| self.file(file)).collect()
    }

    fn file(&self, file: &Value) -> anyhow::Result<PathBuf> {
        let name = file["name"].as_str().context("a file has a name")?;
        anyhow::ensure!(!name.contains('/') && !name.starts_with('.'), "{name} is beside its manifest");
        let path = self.directory.join(name);
        let bytes = fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        anyhow::ensure!(Some(bytes) == file["bytes"].as_u64(), "{name} has {bytes} bytes: {file}");
        let sum = run(Command::new("sha256sum").arg(&path))?;
        let sum = sum.split_whitespace().next().unwrap_or_default();
        anyhow::ensure!(Some(sum) == file["sha256"].as_str(), "{name} has the checksum {sum}: {file}");
        Ok(path)
    }

    /// How long its `.ogg` is when decoded, which two decoders must agree on. `opusinfo` finds nothing to warn of.
    pub fn decoded(&self) -> anyhow::Result<Duration> {
        let files = self.files()?;
        let path = files.iter().find(|path| path.extension().is_some_and(|extension| extension == "ogg"));
        let path = path.context("there is an .ogg")?;
        let told = run(Command::new("opusinfo").arg(path))?;
        anyhow::ensure!(!told.to_lowercase().contains("warning"), "opusinfo of {}:\n{told}", path.display());
        let (one, other) = (opusdec(path)?, ffmpeg(path)?);
        // ffmpeg leaves what is trimmed at the end in, or takes a packet more out.
        let apart = one.abs_diff(other);
        anyhow::ensure!(apart <= Duration::from_millis(40), "{}: opusdec {one:?}, ffmpeg {other:?}", path.display());
        Ok(one)
    }
}

/// A file's length by `opusdec`.
fn opusdec(path: &Path) -> anyhow::Result<Duration> {
    Ok(Sound::decoded(path)?.length())
}

/// Samples of two channels.
#[derive(Debug)]
pub struct Sound(Vec<[i16; 2]>);

impl Sound {
    /// What `opusdec` makes of a file.
    pub fn decoded(path: &Path) -> anyhow::Result<Self> {
        let raw = tempfile::NamedTempFile::new()?;
        run(Command::new("opusdec").args(["--quiet", "--force-stereo", "--rate", "48000"]).arg(path).arg(raw.path()))?;
        // Without a name that ends in .wav it writes samples alone.
        let bytes = fs::read(raw.path())?;
        samples(bytes.len() as u64)?;
        let sample = |bytes: &[u8]| i16::from_le_bytes([bytes[0], bytes[1]]);
        Ok(Self(bytes.chunks_exact(4).map(|frame| [sample(frame), sample(&frame[2..])]).collect()))
    }

    /// How long it is.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.0.len() as u64 * 1_000_000_000 / SAMPLE_RATE)
    }

    /// Of each tenth of a second, how much louder each of two tones is in its own channel than in the other, in dB: the lesser of both.
    pub fn apart(&self, [left, right]: [f64; 2]) -> Vec<f64> {
        let windows = self.0.chunks_exact(SAMPLE_RATE as usize / 10);
        windows
            .map(|window| {
                let difference = |hz: f64| level(window, 0, hz) - level(window, 1, hz);
                difference(left).min(-difference(right))
            })
            .collect()
    }
}

/// Loudness of a tone in one channel, in dB (Goertzel's algorithm).
fn level(window: &[[i16; 2]], channel: usize, hz: f64) -> f64 {
    let turn = 2.0 * (std::f64::consts::TAU * hz / SAMPLE_RATE as f64).cos();
    let (one, two) = window
        .iter()
        .fold((0.0, 0.0), |(one, two), frame| (f64::from(frame[channel]) / 32_768.0 + turn * one - two, one));
    let power = one * one + two * two - turn * one * two;
    10.0 * (power.max(0.0) / (window.len() * window.len()) as f64 + 1e-12).log10()
}

/// Packets of 20 ms that an encoder nobody here wrote makes of a tone in each ear.
pub fn tones([left, right]: [f64; 2], seconds: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let file = tempfile::Builder::new().suffix(".opus").tempfile()?;
    let tone = |hz: f64| format!("sine=frequency={hz}:sample_rate=48000:duration={seconds}");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", &tone(left), "-f", "lavfi", "-i", &tone(right)]);
    command.args([
        "-filter_complex",
        "amerge=inputs=2,volume=3",
        "-c:a",
        "libopus",
        "-b:a",
        "96k",
        "-frame_duration",
        "20",
    ]);
    run(command.arg(file.path()))?;
    let mut reader = ogg::PacketReader::new(fs::File::open(file.path())?);
    let mut packets = Vec::new();
    while let Some(packet) = reader.read_packet()? {
        packets.push(packet.data);
    }
    // OpusHead and OpusTags.
    Ok(packets.split_off(2))
}

/// A file's length by `ffmpeg`.
fn ffmpeg(path: &Path) -> anyhow::Result<Duration> {
    let raw = tempfile::NamedTempFile::new()?;
    let options = ["-f", "s16le", "-ac", "2", "-ar", "48000", "-y"];
    run(Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(path).args(options).arg(raw.path()))?;
    samples(fs::metadata(raw.path())?.len())
}

/// Two channels of two bytes.
fn samples(bytes: u64) -> anyhow::Result<Duration> {
    anyhow::ensure!(bytes.is_multiple_of(4), "{bytes} bytes are no samples of two channels");
    Ok(Duration::from_nanos(bytes / 4 * 1_000_000_000 / SAMPLE_RATE))
}

/// What a program says that must succeed, within a minute.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let mut limited = Command::new("timeout");
    limited.arg("60").arg(command.get_program()).args(command.get_args());
    let output = limited.output().with_context(|| format!("{command:?} is not to be had"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_are_told_apart_by_their_channels() {
        let sample = |hz: f64, at: usize| ((std::f64::consts::TAU * hz * at as f64 / 48_000.0).sin() * 16_000.0) as i16;
        let sound = Sound((0..9_600).map(|at| [sample(440.0, at), sample(880.0, at)]).collect());
        assert_eq!(sound.length(), Duration::from_millis(200));
        let (right, swapped) = (sound.apart([440.0, 880.0]), sound.apart([880.0, 440.0]));
        assert!(right.len() == 2 && right.iter().all(|db| *db > 40.0), "{right:?}");
        assert!(swapped.iter().all(|db| *db < -40.0), "{swapped:?}");
    }
}
