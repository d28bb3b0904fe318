//! What goes out where a model cannot make what was asked for: copies. The originals stay as they came.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Pipeline, Stored};
use crate::cache::NoCopy;
use crate::domain::{Answer, Delivered, Form};
use crate::error::{Error, Kind, Result};

/// How long who fetches a copy waits for a thread that makes it.
const PATIENCE: Duration = Duration::from_secs(5);

impl Pipeline {
    /// Brings the pictures of `answer` to its target. With `by_address`, those that have an address are left as they
    /// are: their copies are made when they are fetched.
    ///
    /// A picture that cannot be brought to it goes out as it came, with a warning: it is paid for.
    pub async fn bring(&self, answer: &mut Answer, by_address: bool) {
        let Some(target) = answer.target else { return };
        let began = Instant::now();
        let brought = join_all(answer.pictures.iter().map(|delivered| async move {
            let picture = &delivered.picture;
            let form = target.form_of(picture)?;
            let is_fetched = by_address && delivered.id.is_some() && target.copy_of(picture).is_some();
            if is_fetched { None } else { Some((form, self.cache.copy(picture, form, None).await)) }
        }))
        .await;
        let mut made = false;
        for (delivered, brought) in answer.pictures.iter_mut().zip(brought) {
            match brought {
                None => {}
                Some((_, Ok(copy))) => {
                    delivered.picture = copy;
                    made = true;
                }
                Some((form, Err(why))) => answer.warnings.push(as_it_came(delivered, form, &why)),
            }
        }
        if made {
            answer.timings.push(("copy", began.elapsed().as_secs_f64() * 1000.0));
        }
    }

    /// The copy of a stored picture in `form`; the picture itself if it is so already.
    ///
    /// # Errors
    /// It cannot be made of this picture, or too many are being made.
    pub async fn copy(&self, original: Stored, form: Form) -> Result<Stored> {
        let picture = &original.picture;
        if (picture.width, picture.height, picture.format) == (form.width, form.height, form.format) {
            return Ok(original);
        }
        let picture = self.cache.copy(picture, form, Some(PATIENCE)).await.map_err(|why| match why {
            NoCopy::Impossible(why) => {
                Error::new(Kind::BadRequest, format!("There is no such copy: {why}.")).code("no_such_copy")
            }
            NoCopy::Busy => {
                let mut error = Error::new(Kind::Unavailable, "Too many copies are being made. Come back soon.");
                error.retry_after = Some(Duration::from_secs(1));
                error.code("overloaded")
            }
            NoCopy::Lost(why) => Error::internal("copy", why),
        })?;
        Ok(Stored { picture, ..original })
    }
}

/// What the caller is told of a picture that could not be brought to `form`.
fn as_it_came(delivered: &Delivered, form: Form, why: &NoCopy) -> String {
    let picture = &delivered.picture;
    tracing::warn!(picture = ?delivered.id, %form, %why, "a picture is delivered as it came");
    format!(
        "the picture came as {}x{}.{} and goes out so, not as {form}: {why}",
        picture.width, picture.height, picture.format
    )
}
