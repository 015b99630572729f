//! A node that has never answered: mostly a setting is wrong, of this edge's or of the node's, and nothing else would say so. Each cause
//! is said once. Pure.

use std::error::Error as _;

use tonic::Status;

use super::calls::presentable;

/// Causes told apart: further ones are not said.
const MAX_CAUSES: usize = 4;

/// What came of asking it.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    answered: bool,
    /// Those that were said.
    causes: Vec<String>,
}

impl Unheard {
    /// It has answered: what it does from now on is judged elsewhere.
    pub(super) fn handle_answer(&mut self) {
        *self = Self { answered: true, causes: Vec::new() };
    }

    /// It has not answered; the cause, if that is to be said.
    pub(super) fn handle_failure(&mut self, error: &Status) -> Option<&str> {
        if self.answered || self.causes.len() >= MAX_CAUSES {
            return None;
        }
        let cause = cause(error);
        if self.causes.contains(&cause) {
            return None;
        }
        self.causes.push(cause);
        self.causes.last().map(String::as_str)
    }

    /// Why it has never answered, as far as is known. One certificate that is refused may look like a broken connection the next time.
    pub(super) fn causes(&self) -> &[String] {
        &self.causes
    }
}

/// With what is behind it: that a certificate was refused is at the end.
fn cause(error: &Status) -> String {
    let mut text = error.message().to_owned();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            let between = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{between}{part}");
        }
        source = error.source();
    }
    if text.is_empty() { error.code().to_string() } else { presentable(&text) }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn each_cause_is_said_once_until_the_node_has_answered() {
        let mut unheard = Unheard::default();
        let (refused, silent) = (Status::unavailable("refused"), Status::deadline_exceeded("no answer"));
        assert_eq!(unheard.handle_failure(&refused), Some("refused"));
        assert_eq!(unheard.handle_failure(&refused), None);
        assert_eq!(unheard.handle_failure(&silent), Some("no answer"));
        assert_eq!(unheard.handle_failure(&refused), None);
        assert_eq!(unheard.causes(), ["refused", "no answer"]);
        unheard.handle_answer();
        assert_eq!(unheard.handle_failure(&Status::internal("later")), None);
        assert!(unheard.causes().is_empty());
    }

    #[test]
    fn what_is_said_is_bounded() {
        let mut unheard = Unheard::default();
        for number in 0..100 {
            let _ = unheard.handle_failure(&Status::internal(format!("{number} {}", "x".repeat(10_000))));
        }
        assert_eq!(unheard.causes.len(), MAX_CAUSES);
        assert!(unheard.causes.iter().all(|cause| cause.len() < 1_000));
    }

    #[test]
    fn a_cause_is_said_with_what_is_behind_it() {
        let wrapped = io::Error::other(io::Error::other("certificate refused"));
        let said = cause(&Status::from_error(Box::new(wrapped)));
        assert_eq!(said, "certificate refused", "once");
        assert_eq!(cause(&Status::unknown("")), "Unknown error");
    }
}
