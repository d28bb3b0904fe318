//! The pictures: real, decodable, pleasant, and cheap.
//!
//! A scene is painted and encoded once per size, motif and format, and kept. Each billed picture is that encoding with
//! a short stamp of its own (a comment chunk naming invoice and picture) put in the middle, so any two differ in their
//! bytes while megabytes stay shared, in binary and in base64 alike.

mod canvas;
mod container;
mod scene;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};

pub(crate) use container::Format;

/// Everything that decides how a picture looks, its stamp aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Look {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Which of the scenes, see [`Look::motif`].
    pub motif: u8,
    /// Edits are drawn in another style, so that one sees what an answer answers.
    pub edit: bool,
    /// Leave the background out. Needs a format with transparency.
    pub transparent: bool,
    /// The file format.
    pub format: Format,
    /// Draw nothing on it.
    pub is_blank: bool,
    /// Pad the file to at least so many bytes.
    pub least_bytes: usize,
}

impl Look {
    /// The motif for a model, prompt and seed. There are few motifs, so that a load test with a million prompts does
    /// not paint a million pictures.
    pub(crate) fn motif(model: &str, prompt: &str, seed: Option<i64>) -> u8 {
        let mut hash = blake3::Hasher::new();
        for part in [model, prompt] {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        if let Some(seed) = seed {
            hash.update(&seed.to_le_bytes());
        }
        hash.finalize().as_bytes()[0] % scene::MOTIFS
    }
}

/// An encoded scene with room for a stamp.
#[derive(Debug)]
pub(crate) struct Painted {
    before: Bytes,
    after: Bytes,
    format: Format,
    base64: OnceLock<Base64>,
}

/// The encoding of a scene, cut where three-byte groups end. Only the few bytes around the stamp are encoded anew.
#[derive(Debug)]
struct Base64 {
    before: Bytes,
    after: Bytes,
}

/// One billed picture, or what a fault put in its place.
#[derive(Clone, Debug)]
pub(crate) enum Picture {
    /// A scene and its stamp.
    Stamped(Arc<Painted>, Bytes),
    /// Other bytes, sold as a picture of that format.
    Raw(Bytes, Format),
}

impl Picture {
    /// Picture `index` (from 0) of an invoice.
    pub(crate) fn stamped(painted: Arc<Painted>, invoice: u64, index: usize) -> Self {
        let stamp = container::stamp(painted.format, &stamp_text(invoice, index));
        Self::Stamped(painted, stamp)
    }

    /// The file in consecutive pieces.
    pub(crate) fn pieces(&self) -> Vec<Bytes> {
        match self {
            Self::Stamped(painted, stamp) => {
                vec![painted.before.clone(), stamp.clone(), painted.after.clone()]
            }
            Self::Raw(bytes, _) => vec![bytes.clone()],
        }
    }

    /// The file's base64 text in consecutive pieces.
    pub(crate) fn base64(&self) -> Vec<Bytes> {
        match self {
            Self::Stamped(painted, stamp) => painted.base64_with(stamp),
            Self::Raw(bytes, _) => vec![encode(bytes)],
        }
    }

    /// The format it claims to have.
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Stamped(painted, _) => painted.format,
            Self::Raw(_, format) => *format,
        }
    }

    /// The same picture with only the first half of its bytes.
    pub(crate) fn cut(&self) -> Self {
        let mut half = self.pieces().concat();
        half.truncate(half.len() / 2);
        Self::Raw(half.into(), self.format())
    }
}

/// What the stamp says. Always of the same length, so that a scene is cut in the same places for every picture.
fn stamp_text(invoice: u64, index: usize) -> String {
    format!("Simulated picture; invoice {invoice:020}, picture {index:03}")
}

impl Painted {
    fn base64_with(&self, stamp: &Bytes) -> Vec<Bytes> {
        // A stamp's length depends on the format only, so the cuts are the same for every picture of a scene.
        let carried = self.before.len() % 3;
        let head = self.before.len() - carried;
        let borrowed = ((3 - (carried + stamp.len()) % 3) % 3).min(self.after.len());
        let encoded = self
            .base64
            .get_or_init(|| Base64 { before: encode(&self.before[..head]), after: encode(&self.after[borrowed..]) });
        let middle = [&self.before[head..], stamp, &self.after[..borrowed]].concat();
        vec![encoded.before.clone(), encode(&middle), encoded.after.clone()]
    }
}

fn encode(bytes: &[u8]) -> Bytes {
    Bytes::from(base64_simd::STANDARD.encode_type::<Vec<u8>>(bytes))
}

/// How many bytes of encodings are kept, base64 not counted.
const KEPT_BYTES: usize = 192 << 20;

/// Why a picture could not be drawn.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the picture could not be drawn: {0}")]
pub(crate) struct PaintError(String);

type Cell = Arc<OnceCell<Arc<Painted>>>;

/// The scenes painted so far. One per process: a scene is a pure function of its look, so sandboxes share it.
static STUDIO: LazyLock<Studio> = LazyLock::new(Studio::default);

struct Studio {
    shelf: Mutex<Shelf>,
    /// Painting is bounded by the cores: a hundred new looks at once must not hold a hundred canvases.
    easels: Semaphore,
}

#[derive(Default)]
struct Shelf {
    cells: HashMap<Look, Cell>,
    /// Finished looks, oldest first, with their sizes in bytes.
    finished: VecDeque<(Look, usize)>,
    bytes: usize,
}

impl Default for Studio {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { shelf: Mutex::default(), easels: Semaphore::new(cores) }
    }
}

/// The encoded scene of a look: painted now, or earlier. Callers who want the same new look wait for one painting.
pub(crate) async fn paint(look: Look) -> Result<Arc<Painted>, PaintError> {
    let cell = {
        let mut shelf = STUDIO.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(shelf.cells.entry(look).or_default())
    };
    let painted = cell.get_or_try_init(|| async {
        let _easel = STUDIO.easels.acquire().await.map_err(|closed| PaintError(closed.to_string()))?;
        let painting = tokio::task::spawn_blocking(move || container::encode(&scene::paint(&look), &look));
        let painted = painting.await.map_err(|broken| PaintError(broken.to_string()))?.map_err(PaintError)?;
        STUDIO.shelf.lock().unwrap_or_else(PoisonError::into_inner).finish(look, &painted);
        Ok(Arc::new(painted))
    });
    painted.await.cloned()
}

impl Shelf {
    fn finish(&mut self, look: Look, painted: &Painted) {
        let size = painted.before.len() + painted.after.len();
        self.finished.push_back((look, size));
        self.bytes += size;
        while self.bytes > KEPT_BYTES && self.finished.len() > 1 {
            let Some((oldest, size)) = self.finished.pop_front() else {
                break;
            };
            self.cells.remove(&oldest);
            self.bytes -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(width: u32, height: u32, format: Format) -> Look {
        Look { width, height, motif: 3, edit: false, transparent: false, format, is_blank: false, least_bytes: 0 }
    }

    #[tokio::test]
    async fn pictures_decode_at_the_size_asked_for() {
        for (width, height) in [(1, 1), (64, 48), (16, 200)] {
            for transparent in [false, true] {
                let look = Look { transparent, least_bytes: 5000, ..look(width, height, Format::Png) };
                let picture = Picture::stamped(paint(look).await.unwrap(), 7, 0);
                let file = picture.pieces().concat();
                assert!(file.len() >= 5000);
                let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
                let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
                let info = reader.next_frame(&mut pixels).unwrap();
                reader.finish().unwrap();
                assert_eq!((info.width, info.height), (width, height));
                let comment = &reader.info().uncompressed_latin1_text[0];
                assert!(comment.text.contains("invoice 00000000000000000007"), "{}", comment.text);
            }
            let look = Look { transparent: true, least_bytes: 5001, ..look(width, height, Format::Webp) };
            let file = Picture::stamped(paint(look).await.unwrap(), 7, 0).pieces().concat();
            assert!(file.len() >= 5000);
            assert_eq!(u32::from_le_bytes(file[4..8].try_into().unwrap()) as usize + 8, file.len());
            let mut decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(file)).unwrap();
            assert_eq!(decoder.dimensions(), (width, height));
            let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
            decoder.read_image(&mut pixels).unwrap();
        }
    }

    #[tokio::test]
    async fn base64_in_pieces_is_base64_of_the_whole() {
        for format in [Format::Png, Format::Webp, Format::Jpeg { quality: 80 }] {
            for least_bytes in [0, 9001, 9002, 200_000] {
                let painted = paint(Look { least_bytes, ..look(40, 30, format) }).await.unwrap();
                let (one, two) = (Picture::stamped(Arc::clone(&painted), 1, 0), Picture::stamped(painted, 1, 1));
                assert_ne!(one.pieces().concat(), two.pieces().concat());
                for picture in [&one, &two, &one.cut()] {
                    let whole = picture.pieces().concat();
                    assert!(whole.len() >= least_bytes / 2);
                    assert_eq!(picture.base64().concat(), encode(&whole), "{format:?} {least_bytes}");
                }
            }
        }
    }

    #[test]
    fn motifs_depend_on_every_part_and_stay_few() {
        let motifs: std::collections::HashSet<u8> =
            (0..500).map(|n| Look::motif("m", &format!("prompt {n}"), None)).collect();
        assert_eq!(motifs.len(), usize::from(scene::MOTIFS));
        assert_eq!(Look::motif("m", "p", Some(1)), Look::motif("m", "p", Some(1)));
    }
}
