//! Server-sent events, byte by byte (WHATWG HTML §9.2), as far as model APIs use them.
//!
//! Apart, because frames are cut anywhere on their way. Invariant: only a frame that its blank line ended is one; what
//! is not UTF-8 is an error.

use super::ModelError;

/// Bytes of a stream on their way to events.
#[derive(Debug, Default)]
pub(super) struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// Adds bytes, and gives the data of every frame that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, ModelError> {
        self.rest.extend_from_slice(bytes);
        let mut data = Vec::new();
        while let Some((end, next)) = end_of_frame(&self.rest) {
            let frame: Vec<u8> = self.rest.drain(..next).collect();
            let text = std::str::from_utf8(frame.get(..end).unwrap_or_default())
                .map_err(|_| ModelError::WrongShape)?;
            let lines: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|line| line.strip_prefix(' ').unwrap_or(line))
                .collect();
            if !lines.is_empty() {
                data.push(lines.join("\n"));
            }
        }
        Ok(data)
    }

    /// Whether nothing is left over.
    pub(super) fn is_done(&self) -> bool {
        self.rest.iter().all(u8::is_ascii_whitespace)
    }
}

/// Where the first frame ends, and where the next begins.
fn end_of_frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let at = |mark: &[u8]| {
        bytes
            .windows(mark.len())
            .position(|window| window == mark)
            .map(|at| (at, at + mark.len()))
    };
    [at(b"\n\n"), at(b"\r\n\r\n"), at(b"\r\r")]
        .into_iter()
        .flatten()
        .min_by_key(|(end, _)| *end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Frames;

    #[test]
    fn a_frame_needs_its_blank_line() {
        let mut frames = Frames::default();
        assert_eq!(frames.push(b"event: x\ndata: {\"a\":1}\n"), Ok(vec![]));
        assert!(!frames.is_done());
        assert_eq!(
            frames.push(b"\n: comment\n\n"),
            Ok(vec!["{\"a\":1}".to_owned()])
        );
        assert!(frames.is_done());
        assert!(frames.push(b"data: \xff\n\n").is_err());
    }

    proptest! {
        #[test]
        fn where_a_stream_is_cut_does_not_matter(cut in 0_usize..60) {
            let text = b"data: one\r\n\r\nevent: e\ndata: two\ndata: lines\n\ndata:three\n\n";
            let (head, tail) = text.split_at(cut.min(text.len()));
            let mut frames = Frames::default();
            let mut data = frames.push(head).expect("text");
            data.extend(frames.push(tail).expect("text"));
            prop_assert_eq!(data, vec!["one", "two\nlines", "three"]);
        }
    }
}
