//! Bounded decoding of gzip bodies: never more output than was allowed, however it was packed.
//!
//! All members of a stream are decoded (RFC 1952 section 2.2); a damaged, cut off or
//! overlong one is an error of the whole. Two caps hold while it decodes, not after: a size,
//! and a ratio of [`RATIO_MAX`] to one beyond the first [`RATIO_FREE_BYTES`].

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

/// Output bytes per input byte that are taken for honest.
pub const RATIO_MAX: u64 = 200;
/// Output up to here may have any ratio: small texts do.
pub const RATIO_FREE_BYTES: u64 = 1 << 20;

/// A gzip stream on its way to become plain.
pub struct Gunzip {
    decoder: MultiGzDecoder<Capped>,
}

/// Why a stream is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GunzipError {
    /// More output than the cap, or than honest packing gives.
    TooLarge,
    /// Not gzip, damaged, or cut off.
    Damaged,
}

impl Gunzip {
    /// A decoder that gives at most `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Gunzip {
            decoder: MultiGzDecoder::new(Capped {
                output: Vec::new(),
                bytes_max,
                input_bytes: 0,
                is_over: false,
            }),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), GunzipError> {
        self.decoder.get_mut().input_bytes += bytes.len() as u64;
        let written = self.decoder.write_all(bytes);
        written.map_err(|_| self.error())
    }

    /// The plain bytes of a stream that ended here.
    pub fn finish(mut self) -> Result<Vec<u8>, GunzipError> {
        match self.decoder.try_finish() {
            Ok(()) => Ok(std::mem::take(&mut self.decoder.get_mut().output)),
            Err(_) => Err(self.error()),
        }
    }

    /// Bytes of output so far.
    pub fn output_bytes(&self) -> usize {
        self.decoder.get_ref().output.len()
    }

    /// Bytes that the output takes in memory.
    pub fn allocated_bytes(&self) -> usize {
        self.decoder.get_ref().output.capacity()
    }

    fn error(&self) -> GunzipError {
        if self.decoder.get_ref().is_over {
            GunzipError::TooLarge
        } else {
            GunzipError::Damaged
        }
    }
}

/// Output with a cap; what goes beyond it stops the decoder.
struct Capped {
    output: Vec<u8>,
    bytes_max: usize,
    input_bytes: u64,
    is_over: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.output.len() + bytes.len();
        let honest = RATIO_FREE_BYTES.max(self.input_bytes.saturating_mul(RATIO_MAX));
        if after > self.bytes_max || after as u64 > honest {
            self.is_over = true;
            return Err(io::Error::other("more output than is allowed"));
        }
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gz(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(packed: &[u8], cut: usize, bytes_max: usize) -> Result<Vec<u8>, GunzipError> {
        let mut gunzip = Gunzip::new(bytes_max);
        packed.chunks(cut).try_for_each(|part| gunzip.push(part))?;
        gunzip.finish()
    }

    #[test]
    fn members_are_joined_however_they_are_cut() {
        let packed = [gz(b"one\n"), gz(b""), gz(b"two\n")].concat();
        for cut in 1..packed.len() {
            assert_eq!(decode(&packed, cut, 100).unwrap(), b"one\ntwo\n", "{cut}");
        }
        let empties = gz(b"").repeat(100_000);
        assert_eq!(decode(&empties, 65_536, 100), Ok(Vec::new()));
    }

    #[test]
    fn a_stream_cut_anywhere_or_damaged_is_refused() {
        let packed = gz(b"hello hello hello hello");
        for end in 0..packed.len() {
            let result = decode(&packed[..end], end.max(1), 100);
            assert_eq!(result, Err(GunzipError::Damaged), "cut at {end}");
        }
        let last = packed.len() - 1;
        for damaged in [last, last - 4, 0, 1, 2] {
            let mut packed = packed.clone();
            packed[damaged] ^= 0x55;
            assert_eq!(
                decode(&packed, 7, 100),
                Err(GunzipError::Damaged),
                "{damaged}"
            );
        }
        let trailing = [packed.as_slice(), b"garbage"].concat();
        assert_eq!(decode(&trailing, 7, 100), Err(GunzipError::Damaged));
        let mut endless_name = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0];
        endless_name.resize(10 << 20, b'n');
        assert_eq!(
            decode(&endless_name, 65_536, 100),
            Err(GunzipError::Damaged)
        );
    }

    #[test]
    fn a_bomb_stops_at_its_caps() {
        let bomb = gz(&vec![0; 100 << 20]);
        assert!(bomb.len() < 120_000);
        let mut gunzip = Gunzip::new(16 << 20);
        let over = bomb.chunks(4096).try_for_each(|part| gunzip.push(part));
        assert_eq!(over, Err(GunzipError::TooLarge));
        // The ratio stops it, long before the size does.
        assert!(
            gunzip.output_bytes() <= 2 << 20,
            "{}",
            gunzip.output_bytes()
        );
        assert_eq!(decode(&gz(&[7; 101]), 10, 100), Err(GunzipError::TooLarge));
        assert_eq!(decode(&gz(&[7; 100]), 10, 100).unwrap().len(), 100);
    }
}
