//! Sound and picture brought together by sender reports: where the picture is to be, going by the sound.
//!
//! The sound's place in the file is never moved for the picture: a file of sound has no picture to go by.

use crate::{SenderClock, timeline::Timeline};

/// A report that puts picture and sound further apart than this is of a broken clock: no network delays one of a sender's streams so much
/// more than the other. In milliseconds.
pub(crate) const MAX_APART: i64 = 3_000;

/// The newest report of a track, and the line of time it came to.
#[derive(Clone, Copy, Debug)]
struct Report {
    clock: SenderClock,
    anchors: u64,
}

impl Report {
    /// Where the report's moment is on the track's line, in ticks; `None` if the line was laid anew since.
    fn position(self, timeline: &Timeline) -> Option<i64> {
        // A report may come before the first packet of its line.
        let holds = self.anchors == timeline.anchors() || self.anchors == 0;
        holds.then(|| timeline.position_of(self.clock.source, self.clock.rtp)).flatten()
    }
}

/// The newest reports of both tracks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LipSync {
    audio: Option<Report>,
    video: Option<Report>,
}

impl LipSync {
    /// Takes a report of the audio.
    pub(crate) fn handle_audio(&mut self, clock: SenderClock, timeline: &Timeline) {
        self.audio = Some(Report { clock, anchors: timeline.anchors() });
    }

    /// Takes a report of the video.
    pub(crate) fn handle_video(&mut self, clock: SenderClock, timeline: &Timeline) {
        self.video = Some(Report { clock, anchors: timeline.anchors() });
    }

    /// What the video's line is to be moved by, in ticks of its clock, to be where the sound is; `None` if that is not known.
    pub(crate) fn correction(&self, audio: &Timeline, video: &Timeline) -> Option<i64> {
        let (of_audio, of_video) = (self.audio?, self.video?);
        let sound = of_audio.position(audio)?;
        let picture = of_video.position(video)?;
        // Seconds and 2^-32 of them, which wrap together.
        let apart = of_video.clock.ntp.wrapping_sub(of_audio.clock.ntp) as i64;
        let apart = (i128::from(apart) * VIDEO_RATE) >> 32;
        let should = i128::from(sound) * VIDEO_RATE / AUDIO_RATE + apart;
        let correction = i64::try_from(should - i128::from(picture)).ok()?;
        (correction.abs() <= MAX_APART * VIDEO_RATE as i64 / 1_000).then_some(correction)
    }
}

const AUDIO_RATE: i128 = crate::opus::RATE as i128;
const VIDEO_RATE: i128 = crate::video::RATE as i128;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{reorder::Held, timeline::Anchor};

    /// A line on which timestamp 0 of source 0 is at `position`.
    fn line(rate: u32, position: i64) -> Timeline {
        let mut timeline = Timeline::new(rate);
        anchor(&mut timeline, 0, position);
        timeline
    }

    fn anchor(timeline: &mut Timeline, source: u32, position: i64) {
        let (arrival, payload) = (Duration::ZERO, Vec::new());
        let held = Held { arrival, timestamp: 0, source, marker: false, ticks: 0, timed: true, payload };
        timeline.advance(0, &held, position, Some(Anchor::First));
    }

    fn clock(source: u32, ntp_seconds: f64, rtp: u32) -> SenderClock {
        SenderClock { source, ntp: (ntp_seconds * 4_294_967_296.0) as u64, rtp }
    }

    #[test]
    fn the_picture_is_moved_to_the_sound_of_its_moment() {
        let (audio, video) = (line(48_000, 48_000), line(90_000, 90_000 + 4_500));
        let mut sync = LipSync::default();
        // Both timestamps 0 were captured at second 100, and so belong to second 1 of the file.
        sync.handle_audio(clock(0, 102.0, 96_000), &audio);
        assert_eq!(sync.correction(&audio, &video), None, "one report tells nothing");
        sync.handle_video(clock(0, 101.5, 135_000), &video);
        assert_eq!(sync.correction(&audio, &video), Some(-4_500));
    }

    #[test]
    fn a_report_from_before_the_line_was_laid_anew_says_nothing() {
        let (mut audio, video) = (line(48_000, 48_000), line(90_000, 90_000));
        let mut sync = LipSync::default();
        sync.handle_audio(clock(0, 100.0, 0), &audio);
        sync.handle_video(clock(0, 100.5, 45_000), &video);
        assert_eq!(sync.correction(&audio, &video), Some(0));
        anchor(&mut audio, 0, 480_000);
        assert_eq!(sync.correction(&audio, &video), None);
        anchor(&mut audio, 1, 480_000);
        sync.handle_audio(clock(0, 100.0, 0), &audio);
        assert_eq!(sync.correction(&audio, &video), None, "of a source that is gone");
    }

    #[test]
    fn clocks_that_contradict_all_reason_are_not_followed() {
        let (audio, video) = (line(48_000, 0), line(90_000, 0));
        let mut sync = LipSync::default();
        for apart in [3.5, 1e9, -1e9] {
            sync.handle_audio(clock(0, 2e9, 0), &audio);
            sync.handle_video(clock(0, 2e9 + apart, 0), &video);
            assert_eq!(sync.correction(&audio, &video), None, "{apart} s");
        }
    }
}
