//! What of an SDP offer the edge itself has to know: which kinds it wants to send. Whether it is usable at all is the SFU's
//! to say; this only looks at `m=` lines and directions, and takes anything.

/// The kinds of media an offer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SentKinds {
    pub(super) audio: bool,
    pub(super) video: bool,
}

/// Reads `m=` lines and directions (RFC 8866, sections 5.14 and 6.7). A section without a direction has the session's,
/// and that is `sendrecv` by default; a port of 0 is a section that is off.
pub(super) fn sent_kinds(sdp: &str) -> SentKinds {
    let mut kinds = SentKinds::default();
    let mut sections = sdp.split("\nm=");
    let session_sends = sections.next().and_then(direction_sends).unwrap_or(true);
    for section in sections {
        let mut media = section.lines().next().unwrap_or_default().split(' ');
        let (kind, port) = (media.next().unwrap_or_default(), media.next().unwrap_or_default());
        let sends = port != "0" && direction_sends(section).unwrap_or(session_sends);
        kinds.audio |= sends && kind == "audio";
        kinds.video |= sends && kind == "video";
    }
    kinds
}

fn direction_sends(section: &str) -> Option<bool> {
    section.lines().find_map(|line| match line.trim_end() {
        "a=sendrecv" | "a=sendonly" => Some(true),
        "a=recvonly" | "a=inactive" => Some(false),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(sdp: &str) -> (bool, bool) {
        let SentKinds { audio, video } = sent_kinds(sdp);
        (audio, video)
    }

    #[test]
    fn only_sections_that_are_on_and_send_count() {
        assert_eq!(kinds("v=0\r\nm=audio 9 X 111\r\na=sendonly\r\nm=video 9 X 96\r\na=recvonly\r\n"), (true, false));
        assert_eq!(kinds("v=0\r\nm=audio 0 X 111\r\nm=video 9 X 96\r\na=sendrecv\r\n"), (false, true));
        assert_eq!(kinds("v=0\nm=audio 9 X 111\nm=application 9 X y\na=sendrecv\n"), (true, false));
        assert_eq!(kinds("v=0\r\na=inactive\r\nm=audio 9 X 111\r\nm=video 9 X 96\r\na=sendonly\r\n"), (false, true));
        assert_eq!(kinds("nonsense"), (false, false));
        assert_eq!(kinds(""), (false, false));
    }

    proptest! {
        #[test]
        fn takes_anything(sdp in "(\\PC|\r|\n|m=|a=sendonly| 9){0,200}") {
            sent_kinds(&sdp);
        }
    }
}
