//! The codecs of a batch's records, and unpacking them without trusting what they say of their size.

use std::io::{Read, Write};

use crate::limits;

/// The codec of a batch: the low three bits of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    #[default]
    None = 0,
    /// A gzip stream.
    Gzip = 1,
    /// Snappy in xerial's framing; raw snappy is read too.
    Snappy = 2,
    /// An LZ4 frame of independent 64 KiB blocks.
    Lz4 = 3,
    /// A zstd frame.
    Zstd = 4,
}

/// Why a block did not unpack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// It unpacks to more than the bound.
    #[error("unpacks to more than {limit} bytes")]
    TooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
    /// It is not what its codec says.
    #[error("{codec:?} data is malformed: {detail}")]
    Malformed {
        /// The codec that the batch names.
        codec: Codec,
        /// What the decoder said.
        detail: String,
    },
}

/// Frames with a larger window than 2²³ bytes are refused: the decoder allocates it before it has seen any data.
/// Every zstd level up to 19 stays below.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// xerial's own default block size.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

impl Codec {
    /// All five.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// From the low three bits of a batch's attributes; `None` for the three numbers that mean nothing.
    pub const fn from_attributes(attributes: i16) -> Option<Self> {
        match attributes & 0b111 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name in `compression.type`; Kafka says `uncompressed` for none.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Packs `data` at the codec's default level.
    ///
    /// # Errors
    /// What the library says; writing to memory has no error of its own.
    pub fn compress(self, data: &[u8]) -> std::io::Result<Vec<u8>> {
        let out = Vec::with_capacity(data.len() / 2 + 64);
        match self {
            Self::None => Ok(data.to_vec()),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                encoder.write_all(data)?;
                encoder.finish()
            }
            Self::Snappy => xerial_compress(data, out),
            Self::Lz4 => {
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_size(lz4_flex::frame::BlockSize::Max64KB)
                    .block_mode(lz4_flex::frame::BlockMode::Independent);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
                encoder.write_all(data)?;
                encoder.finish().map_err(std::io::Error::other)
            }
            Self::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, 3)?;
                encoder.write_all(data)?;
                encoder.finish()
            }
        }
    }

    /// Unpacks `data`, to at most `limit` bytes.
    ///
    /// # Errors
    /// [`CompressionError::TooLarge`] as soon as it passes `limit`, with no more than `limit` bytes and one decoder's window allocated.
    pub fn decompress(self, data: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
        match self {
            Self::None => {
                if data.len() > limit {
                    return Err(CompressionError::TooLarge { limit });
                }
                Ok(data.to_vec())
            }
            Self::Gzip => self.read_bounded(flate2::bufread::MultiGzDecoder::new(data), data.len(), limit),
            Self::Snappy => snappy_decompress(data, limit),
            Self::Lz4 => self.read_bounded(lz4_flex::frame::FrameDecoder::new(data), data.len(), limit),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(data).map_err(|e| self.malformed(&e))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|e| self.malformed(&e))?;
                self.read_bounded(decoder, data.len(), limit)
            }
        }
    }

    fn read_bounded(self, decoder: impl Read, packed: usize, limit: usize) -> Result<Vec<u8>, CompressionError> {
        // Grows as data comes; a first guess from what is here, never from what a header says.
        let mut out = Vec::with_capacity(packed.saturating_mul(3).min(limit));
        decoder.take(limit as u64 + 1).read_to_end(&mut out).map_err(|e| self.malformed(&e))?;
        if out.len() > limit {
            return Err(CompressionError::TooLarge { limit });
        }
        Ok(out)
    }

    fn malformed(self, error: &dyn std::fmt::Display) -> CompressionError {
        CompressionError::Malformed { codec: self, detail: error.to_string() }
    }
}

/// Magic, version 1, compatible with 1, then blocks: big-endian length and raw snappy.
fn xerial_compress(data: &[u8], mut out: Vec<u8>) -> std::io::Result<Vec<u8>> {
    out.extend(XERIAL_MAGIC);
    out.extend(1_u32.to_be_bytes());
    out.extend(1_u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in data.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).map_err(std::io::Error::other)?;
        let length = u32::try_from(packed.len()).map_err(std::io::Error::other)?;
        out.extend(length.to_be_bytes());
        out.extend(packed);
    }
    Ok(out)
}

fn snappy_decompress(data: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    let Some(mut rest) = data.strip_prefix(&XERIAL_MAGIC) else {
        snappy_block(data, limit, &mut out)?;
        return Ok(out);
    };
    rest = rest.get(8..).ok_or_else(|| Codec::Snappy.malformed(&"the header is cut short"))?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(|| Codec::Snappy.malformed(&"a block's length is cut short"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, after) = after.split_at_checked(length).ok_or_else(|| Codec::Snappy.malformed(&"a block is cut short"))?;
        snappy_block(block, limit, &mut out)?;
        rest = after;
    }
    Ok(out)
}

fn snappy_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let stated = snap::raw::decompress_len(block).map_err(|e| Codec::Snappy.malformed(&e))?;
    if stated > limit.saturating_sub(out.len()) {
        return Err(CompressionError::TooLarge { limit });
    }
    // A block of n bytes cannot hold more than about 21 n; a statement beyond is a lie and allocates nothing.
    if stated > block.len().saturating_mul(32) {
        return Err(Codec::Snappy.malformed(&"a block states an impossible length"));
    }
    let start = out.len();
    out.resize(start + stated, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(|e| Codec::Snappy.malformed(&e))?;
    Ok(())
}

const _: () = assert!(1 << ZSTD_WINDOW_LOG_MAX <= limits::BATCH_DECOMPRESSED_BYTES_MAX);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A promise: what a codec packs it unpacks, and not one byte over the bound.
        #[test]
        fn round_trip_within_the_bound(data in proptest::collection::vec(any::<u8>(), 0..100_000), repeat in 1_usize..4) {
            let data = data.repeat(repeat);
            for codec in Codec::ALL {
                let packed = codec.compress(&data).unwrap();
                prop_assert_eq!(&codec.decompress(&packed, data.len()).unwrap(), &data);
                if !data.is_empty() {
                    let refused = codec.decompress(&packed, data.len() - 1);
                    prop_assert_eq!(refused, Err(CompressionError::TooLarge { limit: data.len() - 1 }));
                }
            }
        }

        /// A promise: hostile bytes give an error or some bytes, never a panic.
        #[test]
        fn garbage_is_an_error(data: Vec<u8>) {
            for codec in Codec::ALL {
                let _ = codec.decompress(&data, 1 << 16);
                let mut framed = XERIAL_MAGIC.to_vec();
                framed.extend(&data);
                let _ = codec.decompress(&framed, 1 << 16);
            }
        }
    }

    /// A promise: a bomb is stopped at the bound.
    #[test]
    fn bombs_are_stopped() {
        let zeros = vec![0; 64 << 20];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bomb = codec.compress(&zeros).unwrap();
            assert_eq!(codec.decompress(&bomb, 1 << 20), Err(CompressionError::TooLarge { limit: 1 << 20 }), "{codec:?}");
        }
    }

    /// A promise: raw snappy, without xerial's framing, is read too.
    #[test]
    fn raw_snappy_is_read() {
        let raw = snap::raw::Encoder::new().compress_vec(b"as librdkafka once wrote it").unwrap();
        assert_eq!(Codec::Snappy.decompress(&raw, 100).unwrap(), b"as librdkafka once wrote it");
    }
}
