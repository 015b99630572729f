//! SDP cut into lines (RFC 8866, section 5), each checked against what a line may be. What lines mean is said in [`super::offer`].

use super::SdpError;

/// Longest line, in bytes. Browsers' longest are a few hundred; what is echoed into answers stays as short.
const MAX_LINE: usize = 4_096;

/// One `k=value`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Counts from 1.
    pub(super) number: usize,
    /// The letter before the equals sign.
    pub(super) kind: u8,
    /// What follows it, without white space at the end.
    pub(super) value: &'a str,
}

/// The lines of a text, empty ones left out. Ends may be CRLF or LF.
pub(super) fn lines(sdp: &str) -> impl Iterator<Item = Result<Line<'_>, SdpError>> {
    (1..).zip(sdp.split('\n')).filter_map(|(number, text)| {
        let text = text.strip_suffix('\r').unwrap_or(text);
        (!text.is_empty()).then(|| Line::parse(number, text))
    })
}

impl<'a> Line<'a> {
    fn parse(number: usize, text: &'a str) -> Result<Self, SdpError> {
        let syntax = |problem| SdpError::Syntax { line: number, problem };
        if text.len() > MAX_LINE {
            return Err(syntax("the line is longer than 4096 bytes"));
        }
        if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(syntax("there is a control character"));
        }
        match text.as_bytes() {
            [kind @ b'a'..=b'z', b'=', ..] => Ok(Self { number, kind: *kind, value: text[2..].trim_end() }),
            _ => Err(syntax("not of the form k=value")),
        }
    }

    /// An attribute's name and value; the value is empty if there is none.
    pub(super) fn attribute(&self) -> (&'a str, &'a str) {
        self.value.split_once(':').unwrap_or((self.value, ""))
    }

    /// An error about this line.
    pub(super) fn syntax(&self, problem: &'static str) -> SdpError {
        SdpError::Syntax { line: self.number, problem }
    }

    /// Pushes unless that would pass a bound.
    pub(super) fn push<T>(&self, to: &mut Vec<T>, limit: usize, what: &'static str, item: T) -> Result<(), SdpError> {
        if to.len() == limit {
            return Err(SdpError::TooMany { line: self.number, what, limit });
        }
        to.push(item);
        Ok(())
    }
}

/// Whether a text is a `token` (RFC 8866, section 9) of at most so many bytes.
pub(super) fn is_token(text: &str, max: usize) -> bool {
    let is_token_byte = |byte: u8| matches!(byte, 0x21 | 0x23..=0x27 | 0x2a | 0x2b | 0x2d | 0x2e | 0x30..=0x39 | 0x41..=0x5a | 0x5e..=0x7e);
    (1..=max).contains(&text.len()) && text.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_line_ends_are_read_and_numbers_count_empty_lines() {
        let read: Result<Vec<_>, _> = lines("v=0\r\n\na=mid:1 \ns=-").collect();
        let read: Vec<_> = read.expect("lines").into_iter().map(|line| (line.number, line.kind, line.value)).collect();
        assert_eq!(read, [(1, b'v', "0"), (3, b'a', "mid:1"), (4, b's', "-")]);
    }

    #[test]
    fn what_is_no_line_is_named_by_its_number() {
        for bad in
            ["nonsense", "=", "a", "A=x", " a=x", "é=x", "a=\0", "a=x\ry", &format!("a={}", "x".repeat(MAX_LINE))]
        {
            let text = format!("v=0\r\n{bad}\r\n");
            let error = lines(&text).collect::<Result<Vec<_>, _>>().expect_err(bad);
            assert!(matches!(error, SdpError::Syntax { line: 2, .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn tokens_have_no_separators() {
        assert!(is_token("video-1", 7) && is_token("a#b{c}", 16));
        for not in ["", "a b", "a:b", "a,b", "a\"", "(a)", "é", "12345678"] {
            assert!(!is_token(not, 7), "{not}");
        }
    }
}
