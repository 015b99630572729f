//! SRTCP replay protection: a window per sender SSRC of one transport (RFC 3711 3.3.2).

use super::SrtpError;

/// SSRCs that may send on one transport. A transport of 64 m-lines, each with a source for media and one for
/// retransmissions, has 128 at a time; twice that leaves room for sources that changed. More only costs memory.
pub(crate) const MAX_SOURCES: usize = 256;
/// Packets that may arrive late; RTCP is sparse, so the standard's minimum does.
const WINDOW: u32 = 64;

/// Replay windows by sender.
#[derive(Debug, Default)]
pub(super) struct RtcpSources {
    windows: Vec<Window>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    ssrc: u32,
    highest: u32,
    /// Bit `n` is set when `highest - n` was received.
    seen: u64,
}

impl RtcpSources {
    /// Whether the packet `index` of `ssrc` may be new. Changes nothing.
    pub(super) fn check(&self, ssrc: u32, index: u32) -> Result<(), SrtpError> {
        let Some(window) = self.windows.iter().find(|window| window.ssrc == ssrc) else {
            return if self.windows.len() < MAX_SOURCES { Ok(()) } else { Err(SrtpError::TooManySources) };
        };
        if index > window.highest {
            return Ok(());
        }
        let age = window.highest - index;
        if age < WINDOW && window.seen & (1 << age) == 0 { Ok(()) } else { Err(SrtpError::Replayed) }
    }

    /// Marks an authenticated packet as received. Call only after [`Self::check`] said yes.
    pub(super) fn commit(&mut self, ssrc: u32, index: u32) {
        let Some(window) = self.windows.iter_mut().find(|window| window.ssrc == ssrc) else {
            self.windows.push(Window { ssrc, highest: index, seen: 1 });
            return;
        };
        if index > window.highest {
            window.seen = window.seen.checked_shl(index - window.highest).unwrap_or(0) | 1;
            window.highest = index;
        } else {
            window.seen |= 1 << (window.highest - index);
        }
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.windows.len()
    }
}
