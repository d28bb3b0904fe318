//! Templates: pictures that are drawn here.

use std::sync::Arc;

use super::{Candidate, Maker, Plan, Routes, TEMPLATE};
use crate::config::Route;
use crate::domain::request::TemplateCall;
use crate::domain::{Call, Format, ImageRequest, Operation, Size};
use crate::error::{Error, Kind, Result};
use crate::render::RenderError;

/// The built-in template that stands in where no provider is there.
const STAND_IN: &str = "article";

/// The longest title that it takes, in characters.
const TITLE: usize = 300;

impl Routes {
    pub(super) fn plan_template(&self, call: &Call) -> Result<Plan> {
        let Some(wanted) = &call.request.template else {
            return Err(Error::internal("route", "a render without a template"));
        };
        let model = call.model.as_deref().filter(|model| *model != format!("{TEMPLATE}/{}", wanted.id));
        if let Some(model) = model {
            return Err(Error::bad(
                "model",
                format!(
                    "`template` and `model` = {model} exclude each other: a template is drawn here. Leave `model` out."
                ),
            ));
        }
        if call.n != 1 {
            return Err(Error::bad("n", "A template with the same data is always the same picture: n must be 1."));
        }
        if let Some(name) = call.unknown.keys().next() {
            return Err(unknown_parameter(name));
        }
        let unusable = [
            ("quality", call.request.quality.is_some()),
            ("background", call.request.background.is_some()),
            ("style", call.request.style.is_some()),
            ("seed", call.request.seed.is_some()),
            ("steps", call.request.steps.is_some()),
            ("guidance", call.request.guidance.is_some()),
            ("negative_prompt", call.request.negative_prompt.is_some()),
            ("image", !call.request.inputs.is_empty()),
            ("mask", call.request.mask.is_some()),
        ];
        if let Some((field, _)) = unusable.iter().find(|(_, given)| *given) {
            return Err(Error::bad(*field, format!("`{field}` has no meaning with a template. Leave it out.")));
        }
        let template = self.renderer.template(&wanted.id).ok_or_else(|| {
            let known: Vec<&str> = self.renderer.templates().map(|template| template.id.as_str()).collect();
            Error::new(Kind::NotFound, format!("There is no template `{}`; there are {}.", wanted.id, known.join(", ")))
                .param("template")
                .code("template_not_found")
        })?;
        let data = self.renderer.canonical_data(&wanted.id, &wanted.data).map_err(|error| render_error(&error))?;
        let mut request = call.request.clone();
        request.template = Some(TemplateCall { id: wanted.id.clone(), version: template.version.clone(), data });
        // What is spelled out and what is left out are one request here too.
        request.output_format = request.output_format.filter(|format| *format != Format::Png);
        if request.size == Size::Exact(template.width, template.height) {
            request.size = Size::Auto;
        }
        request.moderation = None;
        let name = format!("{TEMPLATE}/{}", wanted.id);
        let route = name.clone();
        let candidate = Candidate {
            identity: name.clone(),
            name,
            maker: Maker::Template,
            request,
            target: None,
            renamed_from: None,
            choice: Arc::default(),
            rating: None,
        };
        Ok(Plan::of(vec![candidate], route, Arc::new(Route::default())))
    }

    /// The call for a card with the prompt as its title, in place of a picture that nobody here can make.
    pub(super) fn card_of(call: &Call) -> Call {
        let title: String = call.request.prompt.trim().chars().take(TITLE).collect();
        let data = serde_json::json!({ "title": title });
        let template = Some(TemplateCall { id: STAND_IN.to_owned(), version: String::new(), data });
        let request = ImageRequest {
            operation: Operation::Render,
            size: call.request.size,
            output_format: call.request.output_format,
            template,
            ..ImageRequest::generate("")
        };
        Call { model: None, request, ..call.clone() }
    }
}

fn unknown_parameter(name: &str) -> Error {
    Error::bad(name, format!("Unknown parameter: '{name}'.")).code("unknown_parameter")
}

/// What a caller is told when a template cannot be drawn.
pub fn render_error(error: &RenderError) -> Error {
    let sentence = format!("{error}.");
    match error {
        RenderError::UnknownTemplate { .. } => {
            Error::new(Kind::NotFound, sentence).param("template").code("template_not_found")
        }
        RenderError::NotAnObject => Error::bad("data", sentence),
        RenderError::Field { field, .. } => Error::bad(format!("data.{field}"), sentence),
        RenderError::Size { .. } => Error::bad("size", sentence),
        RenderError::Template { .. } | RenderError::Engine(_) | RenderError::Panicked(_) => {
            Error::internal("render", error)
        }
    }
}
