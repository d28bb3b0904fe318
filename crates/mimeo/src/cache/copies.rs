//! Copies of pictures in other sizes and encodings: made on demand, kept in memory for a while, never stored. They can be
//! made again from the original, byte by byte the same.
//!
//! Copies are made on threads that may block, a few at a time, since each keeps a processor busy and holds its pixels in
//! memory. Who asks for one that is being made waits for it.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::sync::Semaphore;

use crate::domain::{Digest, Form, Picture};
use crate::media::raster::{self, Look, RasterError};

/// Memory below which even those who ask at the same time would each make their own: 4 MiB.
const LEAST: u64 = 4 << 20;
/// Copies that are made at a time, at most: beyond, their pixels would take too much memory.
const MOST_AT_A_TIME: usize = 8;
/// What an entry costs besides the picture's bytes.
const OVERHEAD: u64 = 256;

/// Why there is no copy.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoCopy {
    /// It cannot be made of this original.
    #[error(transparent)]
    Impossible(#[from] RasterError),
    /// Too many others are being made.
    #[error("too many copies are being made")]
    Busy,
    /// The thread that made it is gone.
    #[error("the thread that made the copy was lost: {0}")]
    Lost(String),
}

type Key = (Digest, Form);

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Key, Picture> for Bytes {
    fn weight(&self, _: &Key, copy: &Picture) -> u64 {
        copy.bytes.len() as u64 + OVERHEAD
    }
}

#[derive(Debug)]
pub(super) struct Copies {
    kept: Cache<Key, Picture, Bytes>,
    threads: Arc<Semaphore>,
}

impl Copies {
    /// With `bytes` of memory for copies, and no more threads than there are processors.
    pub(super) fn new(bytes: u64) -> Self {
        let bytes = bytes.max(LEAST);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let items = usize::try_from(bytes / 65_536).unwrap_or(64);
        let kept = match OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(bytes)
            // The bound is split over shards, and a large copy must fit in its own.
            .shards(1)
            .build()
        {
            Ok(options) => Cache::with_options(options, Bytes, DefaultHashBuilder::default(), Default::default()),
            Err(_) => Cache::with_weighter(items, bytes, Bytes),
        };
        Copies { kept, threads: Arc::new(Semaphore::new(processors.min(MOST_AT_A_TIME))) }
    }

    /// The copy of `original` in `form`. With `patience`, it is given up when no thread is free for so long.
    pub(super) async fn get(
        &self,
        original: &Picture,
        form: Form,
        patience: Option<Duration>,
    ) -> Result<Picture, NoCopy> {
        // Whoever comes first makes it for all. If that one goes, or has no patience left, the next one does.
        self.kept.get_or_insert_async(&(original.digest, form), self.make(original, form, patience)).await
    }

    async fn make(&self, original: &Picture, form: Form, patience: Option<Duration>) -> Result<Picture, NoCopy> {
        let free = Arc::clone(&self.threads).acquire_owned();
        let thread = match patience {
            None => free.await,
            Some(patience) => tokio::time::timeout(patience, free).await.map_err(|_| NoCopy::Busy)?,
        };
        let thread = thread.map_err(|closed| NoCopy::Lost(closed.to_string()))?;
        let original = original.clone();
        let made = tokio::task::spawn_blocking(move || {
            let made = raster::copy(&original, form);
            // Held to the end, also if nobody waits any more.
            drop(thread);
            made
        });
        Ok(made.await.map_err(|lost| NoCopy::Lost(lost.to_string()))??)
    }

    /// Looks at `picture`, if a thread is free within `patience` and it can be decoded.
    pub(super) async fn look(&self, picture: &Picture, patience: Duration) -> Result<Look, NoCopy> {
        let free = Arc::clone(&self.threads).acquire_owned();
        let thread = tokio::time::timeout(patience, free).await.map_err(|_| NoCopy::Busy)?;
        let thread = thread.map_err(|closed| NoCopy::Lost(closed.to_string()))?;
        let picture = picture.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let looked = Look::at(&picture);
            drop(thread);
            looked
        });
        Ok(looked.await.map_err(|lost| NoCopy::Lost(lost.to_string()))??)
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Format;

    const FORM: Form = Form { width: 20, height: 10, format: Format::Jpeg };

    /// A picture that can be decoded: 16 × 16 pixels, and a text that makes it one of its own.
    fn picture(text: &str) -> Picture {
        let mut drawn = Vec::new();
        let mut encoder = png::Encoder::new(&mut drawn, 16, 16);
        encoder.add_text_chunk("Title".to_owned(), text.to_owned()).unwrap();
        encoder.write_header().unwrap().write_image_data(&[99; 256]).unwrap();
        crate::media::examine(drawn.into()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_makes_it_for_all() {
        let copies = Copies::new(0);
        let original = picture("one");
        let all = futures_util::future::join_all((0..20).map(|_| copies.get(&original, FORM, None))).await;
        let first = all[0].as_ref().unwrap();
        assert_eq!((first.width, first.height, first.format), (20, 10, Format::Jpeg));
        let is_same = |copy: &Result<Picture, NoCopy>| copy.as_ref().unwrap().bytes.as_ptr() == first.bytes.as_ptr();
        assert!(all.iter().all(is_same), "one buffer for all");
        copies.clear();
        let again = copies.get(&original, FORM, None).await.unwrap();
        assert_eq!(again, *first);
        assert_ne!(again.bytes.as_ptr(), first.bytes.as_ptr());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_patience_is_sent_away_and_holds_nobody_up() {
        let copies = Copies::new(0);
        let all = u32::try_from(copies.threads.available_permits()).unwrap();
        let taken = Arc::clone(&copies.threads).acquire_many_owned(all).await.unwrap();
        let original = picture("two");
        let hurried = copies.get(&original, FORM, Some(Duration::from_secs(1))).await;
        assert!(matches!(hurried, Err(NoCopy::Busy)));
        let (waits, ()) = tokio::join!(copies.get(&original, FORM, None), async { drop(taken) });
        assert_eq!(waits.unwrap().width, 20);
    }

    #[tokio::test]
    async fn what_cannot_be_made_is_not_kept() {
        let copies = Copies::new(0);
        let too_wide = Form { width: 33, ..FORM };
        for _ in 0..2 {
            let refused = copies.get(&picture("three"), too_wide, None).await;
            assert!(matches!(refused, Err(NoCopy::Impossible(RasterError::OutOfReach { .. }))));
        }
        assert_eq!(copies.kept.len(), 0);
    }

    #[tokio::test]
    async fn stays_within_its_bytes() {
        let copies = Copies::new(LEAST);
        let form = Form { width: 32, height: 32, format: Format::Png };
        for number in 0..50 {
            copies.get(&picture(&number.to_string()), form, None).await.unwrap();
            assert!(copies.kept.weight() <= LEAST);
        }
        assert!(copies.kept.weight() > 0);
    }
}
