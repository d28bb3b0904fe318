//! Pictures made here, from a template. They cost nothing, so there is nothing to reserve and no attempt
//! to account for; they are stored and answer their key like all others.

use std::sync::Arc;

use super::conclude::row;
use super::{Order, Pipeline};
use crate::domain::request::TemplateCall;
use crate::domain::{Delivered, Format, ImageId, Price, Size};
use crate::error::{Error, Result};
use crate::media;
use crate::render::{self, RenderJob};
use crate::route::{Candidate, render_error};
use crate::store::StoreError;

impl Pipeline {
    /// Draws the template of `candidate`.
    pub(super) async fn render(&self, order: &Order, candidate: &Candidate) -> Result<Vec<Delivered>> {
        let request = &candidate.request;
        let call = request.template.clone().ok_or_else(|| Error::internal("render", "no template"))?;
        let TemplateCall { id, version: _, data } = call;
        let size = match request.size {
            Size::Auto => None,
            Size::Exact(width, height) => Some((width, height)),
        };
        let format = drawable(request.output_format)?;
        let quality = request.output_compression.unwrap_or(85).max(1);
        let (renderer, name) = (Arc::clone(&self.renderer), id.clone());
        let rendered = tokio::task::spawn_blocking(move || {
            renderer.render(&RenderJob { template: &name, data: &data, size, scale: 1.0, format, quality })
        })
        .await
        .map_err(|lost| Error::internal("render", lost))?
        .map_err(|error| render_error(&error))?;
        let picture = media::examine(rendered.bytes).map_err(|bad| Error::internal("render", bad))?;
        let mut made = vec![Delivered {
            id: order.stores().then(ImageId::random),
            picture,
            cost: Price::FREE,
            usage: None,
            revised_prompt: None,
            provider: candidate.maker_name().to_owned(),
            model: id,
            simulated: false,
            created_ms: self.clock.now(),
        }];
        if let Err(error) = self.keep_rendered(order, candidate, &made).await {
            tracing::error!(%error, "a rendered picture could not be stored; it is delivered all the same");
            made.iter_mut().for_each(|delivered| delivered.id = None);
        }
        self.cache.remember(order.key, &made);
        Ok(made)
    }

    async fn keep_rendered(&self, order: &Order, candidate: &Candidate, made: &[Delivered]) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        for delivered in made.iter().filter(|delivered| delivered.id.is_some()) {
            let name = self.store.blobs.put(delivered.picture.digest, delivered.picture.bytes.clone()).await?;
            rows.extend(row(order, candidate, delivered, name, None));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let entry = order.entry(candidate, self.clock.now(), self.lifetimes.pictures);
        self.store.put_free(rows, entry, self.clock.now()).await
    }
}

fn drawable(format: Option<Format>) -> Result<render::Format> {
    match format {
        None | Some(Format::Png) => Ok(render::Format::Png),
        Some(Format::Jpeg) => Ok(render::Format::Jpeg),
        Some(Format::Webp) => Ok(render::Format::WebP),
        Some(other) => {
            Err(Error::bad("output_format", format!("A template is drawn as png, jpeg or webp, not as {other}.")))
        }
    }
}
