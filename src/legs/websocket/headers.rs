//! The headers of a peer's frames (RFC 6455, section 5.2), changed as they pass: a text frame is handed on as a binary one.
//!
//! The library fails a connection whose text is no UTF-8 (as RFC 6455, section 8.1 asks) and drops the text. Here such a
//! text is a delivery like any other: the same event would else cost the connection each time that it is replayed. So
//! the library is shown no texts, and whether bytes are UTF-8 is checked where they are read. Nothing but the opcode is
//! changed; what is no valid frame stays none.

/// The opcode of a text frame; a fragment that goes on with it has 0.
const TEXT: u8 = 0x1;

/// The opcode of a binary frame.
const BINARY: u8 = 0x2;

/// What comes next, byte by byte: frames may be split anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// FIN, reserved bits, opcode.
    #[default]
    Opcode,
    /// Mask bit and length, or how many bytes of length follow.
    Length,
    /// This many more bytes of a length, of which this is known.
    Extended { left: u8, known: u64, masked: bool },
    /// This many bytes that mean nothing here: a mask, if there is one, and the payload.
    Skipped { left: u64 },
}

/// Follows one peer's frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Headers(At);

impl Headers {
    /// Bytes that come next, in their order; texts among them become binary.
    pub(super) fn pass(&mut self, mut bytes: &mut [u8]) {
        while let Some((first, rest)) = bytes.split_first_mut() {
            self.0 = match self.0 {
                At::Opcode => {
                    if *first & 0x0f == TEXT {
                        *first = *first & 0xf0 | BINARY;
                    }
                    At::Length
                }
                At::Length => {
                    let masked = *first & 0x80 != 0;
                    match *first & 0x7f {
                        126 => At::Extended { left: 2, known: 0, masked },
                        127 => At::Extended { left: 8, known: 0, masked },
                        length => skipped(u64::from(length), masked),
                    }
                }
                At::Extended { left, known, masked } => {
                    let known = known << 8 | u64::from(*first);
                    match left {
                        ..=1 => skipped(known, masked),
                        left => At::Extended { left: left - 1, known, masked },
                    }
                }
                At::Skipped { left } => {
                    // This byte, and as many of the rest as are here.
                    let here = u64::try_from(rest.len()).unwrap_or(u64::MAX).min(left - 1);
                    bytes = usize::try_from(here).ok().and_then(|here| rest.get_mut(here..)).unwrap_or_default();
                    self.0 = skipped(left - 1 - here, false);
                    continue;
                }
            };
            bytes = rest;
        }
    }
}

/// After a length: a payload of no bytes is followed by the next frame at once.
fn skipped(length: u64, masked: bool) -> At {
    match length.saturating_add(if masked { 4 } else { 0 }) {
        0 => At::Opcode,
        left => At::Skipped { left },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame's bytes, with the least form of its length.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(length as u8),
            length @ ..65_536 => frame.extend([&[126], &(length as u16).to_be_bytes()[..]].concat()),
            length => frame.extend([&[127], &(length as u64).to_be_bytes()[..]].concat()),
        }
        frame.extend(payload);
        frame
    }

    /// Frames, given by their first bytes and payloads, come out with other first bytes and nothing else changed,
    /// wherever they are split.
    fn check(frames: &[(u8, &[u8], u8)]) {
        let sent: Vec<u8> = frames.iter().flat_map(|(first, payload, _)| frame(*first, payload)).collect();
        let wanted: Vec<u8> = frames.iter().flat_map(|(_, payload, first)| frame(*first, payload)).collect();
        for size in [1, 2, 3, 7, 125, 4096, sent.len()] {
            let mut bytes = sent.clone();
            let mut headers = Headers::default();
            bytes.chunks_mut(size).for_each(|chunk| headers.pass(chunk));
            assert!(bytes == wanted, "in pieces of {size}");
            assert_eq!(headers.0, At::Opcode, "in pieces of {size}");
        }
    }

    #[test]
    fn texts_become_binary_and_nothing_else_changes() {
        let texts = [0x81; 65_536];
        for length in [0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 65_535, 65_536] {
            let payload = &texts[..length];
            check(&[(0x81, payload, 0x82), (0x81, b"\x81\x81", 0x82), (0x82, payload, 0x82)]);
        }
    }

    #[test]
    fn fragments_and_control_frames_between_them_keep_their_opcodes() {
        check(&[
            (0x01, b"\xf0\x9f", 0x02),
            (0x89, b"\x81\x01", 0x89),
            (0x00, b"\x98", 0x00),
            (0x8a, b"", 0x8a),
            (0x80, b"\x80", 0x80),
            (0x81, b"next", 0x82),
            (0x88, b"\x03\xe8", 0x88),
        ]);
    }

    #[test]
    fn what_is_no_valid_frame_stays_none() {
        // Reserved bits and opcodes.
        check(&[(0xc1, b"x", 0xc2), (0x83, b"x", 0x83), (0x8b, b"x", 0x8b), (0x81, b"", 0x82)]);
        // A mask counts as bytes of the frame.
        let mut masked = [0x81, 0x81, 1, 2, 3, 4, 0x81, 0x81, 0x00];
        Headers::default().pass(&mut masked);
        assert_eq!(masked, [0x82, 0x81, 1, 2, 3, 4, 0x81, 0x82, 0x00]);
        // A length that no machine holds.
        let mut endless = [[0x81, 0xff].as_slice(), &[0xff; 8], &[0x81; 20]].concat();
        let mut headers = Headers::default();
        headers.pass(&mut endless);
        assert_eq!((endless[0], &endless[10..]), (0x82, [0x81; 20].as_slice()));
        assert_eq!(headers.0, At::Skipped { left: u64::MAX - 20 });
    }
}
