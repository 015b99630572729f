//! What the headers of DTLS records say before anything is decrypted (RFC 6347, sections 4.2.2 and 4.3.1). No state: whether what
//! they say is acceptable now is for [`super::dimpl_endpoint`] to decide.

use super::dimpl_endpoint::{MAX_CERTIFICATE, MAX_RECEIVED};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const CLIENT_HELLO: u8 = 1;
/// What a client says in the clear: hello, certificate, its proof, key exchange.
const CLIENT_MESSAGES: [u8; 4] = [CLIENT_HELLO, 11, 15, 16];
/// Its messages are numbered from 0; four are all.
const LAST_MESSAGE: u16 = 8;

/// What the records of a datagram are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    /// There is a piece of a client hello.
    pub(super) opens: bool,
    /// There is the first piece of a client hello, this long.
    pub(super) hello_start: Option<usize>,
    /// There is a handshake message that is not encrypted: from a client that has keys, a repetition.
    pub(super) plain_message: bool,
    /// There is an alert that is not encrypted.
    pub(super) plain_alert: bool,
}

impl Records {
    /// Walks the records; `None` if they are not DTLS 1.x, do not fill the datagram, or hold messages in the clear that no client
    /// sends: those would wait in the library's queue for a turn that never comes.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        if datagram.is_empty() || datagram.len() > MAX_RECEIVED {
            return None;
        }
        let mut records = Self::default();
        let mut rest = datagram;
        while !rest.is_empty() {
            let (header, body) = rest.split_first_chunk::<13>()?;
            let [kind, 0xfe, _, epoch_high, epoch_low, .., length_high, length_low] = *header else { return None };
            let is_plain = (epoch_high, epoch_low) == (0, 0);
            let (body, next) = body.split_at_checked(usize::from(u16::from_be_bytes([length_high, length_low])))?;
            match kind {
                HANDSHAKE if is_plain => records.note_messages(body)?,
                ALERT => records.plain_alert |= is_plain,
                CHANGE_CIPHER_SPEC | HANDSHAKE | APPLICATION_DATA => {}
                _ => return None,
            }
            rest = next;
        }
        Some(records)
    }

    fn note_messages(&mut self, mut body: &[u8]) -> Option<()> {
        self.plain_message = true;
        loop {
            let (header, rest) = body.split_first_chunk::<12>()?;
            let [kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = *header;
            let (length, offset, piece) = (int([l0, l1, l2]), int([o0, o1, o2]), int([f0, f1, f2]));
            let is_message = CLIENT_MESSAGES.contains(&kind) && u16::from_be_bytes([s0, s1]) <= LAST_MESSAGE;
            if !is_message || offset + piece > length || length > MAX_CERTIFICATE {
                return None;
            }
            if kind == CLIENT_HELLO {
                self.opens = true;
                if offset == 0 {
                    self.hello_start = Some(piece);
                }
            }
            body = rest.get(piece..)?;
            if body.is_empty() {
                return Some(());
            }
        }
    }
}

fn int(bytes: [u8; 3]) -> usize {
    u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1, 0, body.len() as u8], body].concat()
    }

    fn message(kind: u8, length: u8, sequence: u8, offset: u8, piece: &[u8]) -> Vec<u8> {
        [&[kind, 0, 0, length, 0, sequence, 0, 0, offset, 0, 0, piece.len() as u8], piece].concat()
    }

    #[test]
    fn pieces_of_a_client_hello_are_recognised() {
        let first = Records::parse(&record(22, 0, &message(1, 9, 0, 0, &[0; 5]))).expect("a first piece");
        assert_eq!(first, Records { opens: true, hello_start: Some(5), plain_message: true, plain_alert: false });
        let second = Records::parse(&record(22, 0, &message(1, 9, 0, 5, &[0; 4]))).expect("a second piece");
        assert_eq!(second, Records { opens: true, hello_start: None, plain_message: true, plain_alert: false });
    }

    #[test]
    fn a_clients_last_flight_is_acceptable_in_one_datagram() {
        let messages =
            [message(11, 3, 1, 0, &[0; 3]), message(16, 1, 2, 0, &[0]), message(15, 2, 3, 0, &[0; 2])].concat();
        let datagram = [record(22, 0, &messages), record(20, 0, &[1]), record(22, 1, &[7; 40])].concat();
        assert_eq!(Records::parse(&datagram), Some(Records { plain_message: true, ..Records::default() }));
    }

    #[test]
    fn alerts_in_the_clear_are_told_from_encrypted_ones() {
        let is_plain = |datagram: &[u8]| Records::parse(datagram).map(|records| records.plain_alert);
        assert_eq!(is_plain(&record(21, 0, &[2, 40])), Some(true));
        assert_eq!(is_plain(&record(21, 1, &[7; 30])), Some(false));
    }

    #[test]
    fn what_no_client_sends_is_refused() {
        let bad = [
            vec![],
            record(22, 0, &[]),
            record(22, 0, &message(2, 4, 0, 0, &[0; 4])),
            record(22, 0, &message(1, 4, 9, 0, &[0; 4])),
            record(22, 0, &message(1, 4, 0, 1, &[0; 4])),
            record(22, 0, &message(1, 4, 0, 0, &[0; 4])[..15]),
            record(24, 0, &[0; 4]),
            record(23, 1, &[0; 4])[..16].to_vec(),
            [record(23, 1, &[0; 4]), vec![23]].concat(),
            vec![23; MAX_RECEIVED + 1],
        ];
        for datagram in bad {
            assert_eq!(Records::parse(&datagram), None, "{datagram:02x?}");
        }
    }
}
