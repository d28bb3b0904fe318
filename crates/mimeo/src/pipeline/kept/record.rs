//! An answer as it is written down: everything that its headers and its body need, but not the pictures,
//! which are stored under their own names.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Answer, Cascaded, Delivered, ImageId, Price, RequestId, Source, Story, Target, Understood, Usage, Usd,
};
use crate::error::{Error, Kind, Result};

/// How a request ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// With pictures.
    Succeeded(Box<Success>),
    /// Without.
    Failed(Failure),
}

/// An [`Answer`] without its pictures. How long its phases took is of no use to who gets it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Success {
    created_ms: i64,
    /// `None` for those that were not stored.
    pub(super) pictures: Vec<Option<String>>,
    usage: Option<Usage>,
    source: Source,
    provider: String,
    model: String,
    simulated: bool,
    /// `None` is a cost that nobody knows.
    cost: Option<Usd>,
    saved: Usd,
    understood: Understood,
    /// Its pictures are named as they are stored, and brought to it again.
    #[serde(default)]
    target: Option<Target>,
    warnings: Vec<String>,
    explain: Vec<String>,
    #[serde(default)]
    story: Option<Box<Story>>,
    #[serde(default)]
    cascade: Option<Cascaded>,
}

/// What the caller was told of an [`Error`]; what the log was told is in the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    kind: Kind,
    message: String,
    param: Option<String>,
    code: Option<String>,
    may_have_billed: bool,
}

impl Record {
    pub(super) fn of(outcome: &Result<Answer>) -> Record {
        match outcome {
            Ok(answer) => Record::Succeeded(Box::new(Success {
                created_ms: answer.created_ms,
                pictures: answer.pictures.iter().map(|picture| picture.id.map(|id| id.to_string())).collect(),
                usage: answer.usage,
                source: answer.source,
                provider: answer.provider.clone(),
                model: answer.model.clone(),
                simulated: answer.simulated,
                cost: answer.cost.known(),
                saved: answer.saved,
                understood: answer.understood.clone(),
                target: answer.target,
                warnings: answer.warnings.clone(),
                explain: answer.explain.clone(),
                story: answer.story.clone(),
                cascade: answer.cascade.clone(),
            })),
            Err(error) => Record::Failed(Failure {
                kind: error.kind,
                message: error.message.clone(),
                param: error.param.clone(),
                code: error.code.clone(),
                may_have_billed: error.may_have_billed,
            }),
        }
    }

    pub(super) fn to_json(&self) -> String {
        // Nothing in it can fail to be JSON: no map has keys that are not text.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// # Errors
    /// Another program wrote it.
    pub(super) fn from_json(text: &str) -> Result<Record> {
        serde_json::from_str(text).map_err(|cause| Error::internal("a kept answer", cause))
    }
}

impl Success {
    /// The names of its pictures; one that cannot be read leads to none.
    pub(super) fn pictures(&self) -> impl Iterator<Item = Option<ImageId>> {
        self.pictures.iter().map(|id| id.as_ref().and_then(|id| id.parse().ok()))
    }

    pub(super) fn into_answer(self, id: RequestId, pictures: Vec<Delivered>) -> Answer {
        Answer {
            id,
            created_ms: self.created_ms,
            pictures,
            usage: self.usage,
            source: self.source,
            provider: self.provider,
            model: self.model,
            simulated: self.simulated,
            cost: self.cost.map_or(Price::Unknown, Price::Known),
            saved: self.saved,
            understood: self.understood,
            target: self.target,
            // No prompt is written down with an answer.
            prompt_sent: None,
            warnings: self.warnings,
            explain: self.explain,
            story: self.story,
            cascade: self.cascade,
            timings: Vec::new(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let Failure { kind, message, param, code, may_have_billed } = failure;
        Error { param, code, may_have_billed, ..Error::new(kind, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, Format, Picture, Size, Stage, WishId};
    use bytes::Bytes;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let bytes = Bytes::from_static(b"a picture");
        let delivered = Delivered {
            id: Some(ImageId(7)),
            picture: Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width: 2, height: 3 },
            cost: Price::Unknown,
            usage: None,
            revised_prompt: None,
            provider: "p".into(),
            model: "m".into(),
            simulated: true,
            created_ms: 5,
        };
        let answer = Answer {
            id: RequestId(1),
            created_ms: 5,
            pictures: vec![delivered.clone(), Delivered { id: None, ..delivered.clone() }],
            usage: Some(Usage { output_image: 9, ..Usage::default() }),
            source: Source::Bypass,
            provider: "p".into(),
            model: "m".into(),
            simulated: true,
            cost: Price::Unknown,
            saved: Usd::from_pico(1),
            understood: Understood {
                size: Size::Exact(2, 3),
                quality: Some("low".into()),
                background: None,
                output_format: Some(Format::Png),
            },
            target: Some(Target { size: Some((1200, 630)), format: Some(Format::Jpeg) }),
            prompt_sent: None,
            warnings: vec!["soon".into()],
            explain: vec!["because".into()],
            story: None,
            cascade: Some(Cascaded {
                stage: Stage::Draft,
                drafts: vec![ImageId(7)],
                wishes: vec![WishId(8)],
                until_ms: Some(9),
                final_price: Price::Unknown,
                parent: None,
            }),
            timings: vec![("key", 1.0)],
        };
        let text = Record::of(&Ok(answer.clone())).to_json();
        assert!(text.len() < 1000 && !text.contains("a picture"), "{text}");
        let Record::Succeeded(success) = Record::from_json(&text).unwrap() else { panic!("{text}") };
        assert_eq!(success.pictures().collect::<Vec<_>>(), [Some(ImageId(7)), None]);
        let again = success.into_answer(RequestId(1), answer.pictures.clone());
        assert_eq!(format!("{again:?}"), format!("{:?}", Answer { timings: Vec::new(), ..answer }));
    }

    #[test]
    fn an_error_comes_back_as_it_was_told() {
        let mut error = Error::bad("n", "no").code("invalid_n").context("secret", "for the log");
        error.may_have_billed = true;
        let text = Record::of(&Err(error.clone())).to_json();
        assert!(!text.contains("for the log"), "{text}");
        let Record::Failed(failure) = Record::from_json(&text).unwrap() else { panic!("{text}") };
        error.context.clear();
        assert_eq!(format!("{:?}", Error::from(failure)), format!("{error:?}"));
        assert_eq!(Record::from_json("{}").unwrap_err().kind, Kind::Internal);
    }
}
