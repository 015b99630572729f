//! The writer to stdout or stderr, on a thread of its own: whoever reads there may stop, and nobody else does then.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::queue::{Batch, Queue, Sink};

/// Bytes in one write, if lines are not longer: what a pipe takes in one piece (`PIPE_BUF`), so that what the program itself prints
/// never stands inside a line.
const PIECE: usize = 4096;

/// The file behind stdout or stderr, by a number of our own: Rust's own handle has a lock, which a write that hangs would keep.
pub(super) fn file(of: &impl AsFd) -> io::Result<File> {
    Ok(of.as_fd().try_clone_to_owned()?.into())
}

/// Writes until the queue is closed.
pub(super) fn run(queue: &Arc<Queue>, mut to: impl Write) {
    let mut spare = Batch::default();
    while let Some(batch) = queue.next(Sink::Console, spare, Duration::from_secs(1)) {
        let failed = write(&mut to, &batch);
        if failed > 0 {
            queue.lose(Sink::Console, failed);
        } else if queue.is_calm(Sink::Console) {
            super::tell_dropped(queue, Sink::Console, 0);
        }
        spare = batch;
    }
}

/// How many lines could not be written.
fn write(to: &mut impl Write, batch: &Batch) -> u64 {
    let mut piece = Vec::with_capacity(PIECE);
    let (mut lines, mut lost) = (0, 0);
    for (_, line) in batch.lines() {
        if piece.len() + line.len() > PIECE && !piece.is_empty() {
            lost += write_piece(to, &mut piece, &mut lines);
        }
        piece.extend_from_slice(line);
        lines += 1;
    }
    lost + write_piece(to, &mut piece, &mut lines)
}

fn write_piece(to: &mut impl Write, piece: &mut Vec<u8>, lines: &mut u64) -> u64 {
    // Whoever is gone does not come back: there is nobody to tell.
    let written = to.write_all(piece);
    piece.clear();
    let lines = std::mem::take(lines);
    if written.is_ok() { 0 } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what comes, or nothing at all.
    struct Pipe {
        pieces: Vec<usize>,
        broken: bool,
    }

    impl Write for Pipe {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            if self.broken {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            assert!(piece.ends_with(b"\n"), "a piece is of whole lines");
            self.pieces.push(piece.len());
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn batch(lines: usize, length: usize) -> Batch {
        let queue = Queue::new(false);
        for _ in 0..lines {
            queue.push_text(&[vec![b'x'; length - 1], b"\n".to_vec()].concat());
        }
        queue.next(Sink::Console, Batch::default(), Duration::ZERO).expect("open")
    }

    #[test]
    fn lines_are_written_in_pieces_that_a_pipe_takes_whole() {
        let mut pipe = Pipe { pieces: Vec::new(), broken: false };
        assert_eq!(write(&mut pipe, &batch(10, 1_000)), 0);
        assert_eq!(pipe.pieces, [4_000, 4_000, 2_000]);
        assert_eq!(write(&mut pipe, &batch(2, 5_000)), 0);
        assert_eq!(pipe.pieces[3..], [5_000, 5_000]);
    }

    #[test]
    fn lines_that_nobody_reads_are_counted() {
        let mut pipe = Pipe { pieces: Vec::new(), broken: true };
        assert_eq!(write(&mut pipe, &batch(10, 1_000)), 10);
    }
}
