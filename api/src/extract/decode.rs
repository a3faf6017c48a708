//! Content codings, undone piece by piece: never more comes out at once than there is room for, so that a bomb is only as large as its bound.

use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, HeaderValue};
use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use tidegate_types::ErrorCode;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use crate::error::ApiError;

/// The largest zstd window that is taken, 8 MiB (RFC 9659), so that a few bytes cannot ask for 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A content coding, in order of our own preference, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Coding {
    /// zlib's format, as HTTP means it.
    Deflate,
    Gzip,
    Brotli,
    Zstd,
}

impl Coding {
    /// By its registered name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let known = [("gzip", Self::Gzip), ("x-gzip", Self::Gzip), ("zstd", Self::Zstd), ("br", Self::Brotli), ("deflate", Self::Deflate)];
        known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, coding)| *coding)
    }

    /// As it stands in `Content-Encoding`.
    pub(crate) fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Deflate => "deflate",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        })
    }
}

/// The coding of a request's body.
///
/// # Errors
/// 415 `unsupported-content-encoding` for others, and for several on top of each other: nobody sends them but to make us work.
pub(crate) fn content_coding(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
    let unsupported = || ApiError::new(ErrorCode::UnsupportedContentEncoding, "Content-Encoding is one of gzip, zstd, br and deflate");
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(unsupported());
    }
    let name = value.to_str().map_err(|_| unsupported())?.trim();
    if name.is_empty() || name.eq_ignore_ascii_case("identity") {
        return Ok(None);
    }
    Coding::from_name(name).map(Some).ok_or_else(unsupported)
}

/// What one step of a decoder did.
#[derive(Debug)]
struct Step {
    consumed: usize,
    produced: usize,
    /// The coded stream is complete.
    ended: bool,
}

/// Undoes one coding.
pub(crate) struct Decoder {
    codec: Codec,
    /// Whether what came so far is complete.
    ended: bool,
    /// Whether anything came.
    begun: bool,
}

enum Codec {
    Gzip(Decompress),
    Deflate(Decompress),
    Zstd(ZstdDecoder<'static>),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
}

impl Decoder {
    pub(crate) fn new(coding: Coding) -> Result<Self, ApiError> {
        let codec = match coding {
            Coding::Gzip => Codec::Gzip(gzip()),
            Coding::Deflate => Codec::Deflate(Decompress::new(true)),
            Coding::Zstd => Codec::Zstd(zstd()?),
            Coding::Brotli => Codec::Brotli(Box::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ))),
        };
        Ok(Self { codec, ended: false, begun: false })
    }

    /// Decodes from `input`, which it shortens, into `output`; returns how much it wrote.
    ///
    /// Unless `output` was filled to its end, all of `input` is used up.
    ///
    /// # Errors
    /// 400 `malformed-body`.
    pub(crate) fn decode(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, ApiError> {
        let mut written = 0;
        while written < output.len() && !(input.is_empty() && (self.ended || !self.begun)) {
            if self.ended && !input.is_empty() {
                self.begin_again()?;
            }
            self.begun = true;
            let step = self.codec.step(input, &mut output[written..]).ok_or_else(malformed)?;
            *input = &input[step.consumed..];
            written += step.produced;
            self.ended = step.ended;
            if step.consumed == 0 && step.produced == 0 && !step.ended {
                break; // It waits for more input.
            }
        }
        Ok(written)
    }

    /// Whether everything has come that belongs to the stream.
    ///
    /// # Errors
    /// 400 `malformed-body` if it is cut short.
    pub(crate) fn finish(&self) -> Result<(), ApiError> {
        if self.begun && !self.ended { Err(malformed()) } else { Ok(()) }
    }

    /// gzip and zstd allow another member after the end of one; the others do not.
    fn begin_again(&mut self) -> Result<(), ApiError> {
        match &mut self.codec {
            Codec::Gzip(inflate) => *inflate = gzip(),
            Codec::Zstd(_) => {}
            Codec::Deflate(_) | Codec::Brotli(_) => return Err(malformed()),
        }
        self.ended = false;
        Ok(())
    }
}

impl Codec {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Option<Step> {
        match self {
            Self::Gzip(inflate) | Self::Deflate(inflate) => step_inflate(inflate, input, output),
            Self::Zstd(decoder) => step_zstd(decoder, input, output),
            Self::Brotli(state) => step_brotli(state, input, output),
        }
    }
}

fn step_inflate(inflate: &mut Decompress, input: &[u8], output: &mut [u8]) -> Option<Step> {
    let (in_before, out_before) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, output, FlushDecompress::None).ok()?;
    Some(Step {
        consumed: usize::try_from(inflate.total_in() - in_before).ok()?,
        produced: usize::try_from(inflate.total_out() - out_before).ok()?,
        ended: matches!(status, Status::StreamEnd),
    })
}

fn step_zstd(decoder: &mut ZstdDecoder<'static>, input: &[u8], output: &mut [u8]) -> Option<Step> {
    let (mut source, mut target) = (InBuffer::around(input), OutBuffer::around(output));
    let remaining = decoder.run(&mut source, &mut target).ok()?;
    Some(Step { consumed: source.pos(), produced: target.pos(), ended: remaining == 0 })
}

fn step_brotli(state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>, input: &[u8], output: &mut [u8]) -> Option<Step> {
    let (mut available_in, mut consumed) = (input.len(), 0);
    let (mut available_out, mut produced, mut total_out) = (output.len(), 0, 0);
    let result =
        BrotliDecompressStream(&mut available_in, &mut consumed, input, &mut available_out, &mut produced, output, &mut total_out, state);
    match result {
        BrotliResult::ResultFailure => None,
        BrotliResult::ResultSuccess => Some(Step { consumed, produced, ended: true }),
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Some(Step { consumed, produced, ended: false }),
    }
}

fn gzip() -> Decompress {
    const WINDOW_BITS: u8 = 15; // The most that the format allows.
    Decompress::new_gzip(WINDOW_BITS)
}

fn zstd() -> Result<ZstdDecoder<'static>, ApiError> {
    let failed = |_| ApiError::new(ErrorCode::Overloaded, "there is no memory for another zstd decoder");
    let mut decoder = ZstdDecoder::new().map_err(failed)?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(failed)?;
    Ok(decoder)
}

fn malformed() -> ApiError {
    ApiError::malformed_body("the body does not decode as its Content-Encoding says").closing()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::HeaderName;

    use super::*;

    pub(crate) fn encode(coding: Coding, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::best());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            Coding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::best());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            Coding::Zstd => out = zstd::bulk::compress(plain, 3).unwrap(),
            Coding::Brotli => brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(plain).unwrap(),
        }
        out
    }

    const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Brotli];

    /// Decodes with `coded` cut into pieces of `piece` bytes and room for `room` bytes at a time.
    fn decode(coding: Coding, coded: &[u8], piece: usize, room: usize) -> Result<Vec<u8>, ApiError> {
        let mut decoder = Decoder::new(coding)?;
        let (mut plain, mut space) = (Vec::new(), vec![0; room]);
        for piece in coded.chunks(piece) {
            let mut input = piece;
            loop {
                let written = decoder.decode(&mut input, &mut space)?;
                plain.extend_from_slice(&space[..written]);
                if written < room {
                    assert!(input.is_empty(), "{coding:?} left input although it had room");
                    break;
                }
            }
        }
        decoder.finish().map(|()| plain)
    }

    /// A promise: what is encoded is decoded, whatever pieces it arrives in and however little room there is.
    #[test]
    fn codings_round_trip_in_pieces() {
        let plain: Vec<u8> = (0..40_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for coding in ALL {
            let coded = encode(coding, &plain);
            for (piece, room) in [(1, 4096), (13, 7), (coded.len(), 100), (coded.len(), plain.len()), (coded.len(), plain.len() + 1)] {
                assert!(decode(coding, &coded, piece, room).unwrap() == plain, "{coding:?} {piece} {room}");
            }
            assert_eq!(decode(coding, b"", 1, 10).unwrap(), b"", "{coding:?}: nothing is nothing");
        }
    }

    /// A promise: a coded body that is cut short, damaged or followed by other bytes is malformed, wherever it is cut.
    #[test]
    fn damage_is_noticed() {
        let plain = b"the quick brown fox jumps over the lazy dog".repeat(20);
        for coding in ALL {
            let coded = encode(coding, &plain);
            for length in 1..coded.len() {
                assert!(decode(coding, &coded[..length], 5, 64).is_err(), "{coding:?} cut at {length}");
            }
            let garbage = [coded.as_slice(), b"garbage that is no further member"].concat();
            assert!(decode(coding, &garbage, 7, 64).is_err(), "{coding:?} with garbage behind");
        }
        assert!(decode(Coding::Gzip, b"plain text", 3, 64).is_err());
        let mut flipped = encode(Coding::Gzip, &plain);
        let last = flipped.len() - 6; // Within the checksum.
        flipped[last] ^= 1;
        assert!(decode(Coding::Gzip, &flipped, 7, 64).is_err());
    }

    /// A promise: gzip and zstd bodies of several members are whole bodies.
    #[test]
    fn members_are_joined() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let coded = [encode(coding, b"one "), encode(coding, b"two")].concat();
            assert_eq!(decode(coding, &coded, 3, 64).unwrap(), b"one two", "{coding:?}");
        }
    }

    /// A promise: a zstd frame cannot ask for a window larger than 8 MiB.
    #[test]
    fn a_wide_zstd_window_is_refused() {
        // Magic, descriptor without content size, window of 128 MiB, one empty last block.
        let wide = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
        assert!(decode(Coding::Zstd, &wide, 9, 64).is_err());
        let narrow = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3, 0x01, 0x00, 0x00];
        assert_eq!(decode(Coding::Zstd, &narrow, 9, 64).unwrap(), b"");
    }

    /// A promise: unknown and stacked codings are refused by name of the header, not guessed.
    #[test]
    fn other_codings_are_unsupported() {
        let with = |value: &'static str| HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(value))]);
        assert_eq!(content_coding(&with("GZIP")).unwrap(), Some(Coding::Gzip));
        assert_eq!(content_coding(&with("identity")).unwrap(), None);
        assert_eq!(content_coding(&HeaderMap::from_iter([(HeaderName::from_static("x"), HeaderValue::from_static("y"))])).unwrap(), None);
        for bad in ["compress", "gzip, gzip", "gzip,zstd", "snappy"] {
            assert_eq!(content_coding(&with(bad)).unwrap_err().code(), ErrorCode::UnsupportedContentEncoding, "{bad}");
        }
    }
}
