//! Input pictures: from parts of a form and from data URLs, checked before anything is spent on them.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::Sniff;
use super::fields::{Fields, Sent};
use super::multipart::Part;
use crate::domain::InputPicture;
use crate::error::{Error, Result};

/// The most that the OpenAI API takes.
const MAX_INPUTS: usize = 16;

/// The pictures of an edit.
#[derive(Debug, Default)]
pub struct Inputs {
    /// To edit, in order.
    pub pictures: Vec<InputPicture>,
    /// Where to edit.
    pub mask: Option<InputPicture>,
}

/// What a part of a form is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of the pictures: `image`, `image[]`, `image[0]`.
    Image,
    /// The mask.
    Mask,
}

impl Role {
    /// The role of the part called `name`; none if it is a text field.
    pub fn of(name: &str) -> Option<Role> {
        let bare = name.split_once('[').map_or(name, |(bare, _)| bare);
        match bare {
            "image" | "images" => Some(Role::Image),
            "mask" => Some(Role::Mask),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Role::Image => "image",
            Role::Mask => "mask",
        }
    }
}

impl Inputs {
    /// Takes a part of a form.
    ///
    /// # Errors
    /// Too many, or no picture.
    pub fn add_part(&mut self, role: Role, part: &Part, sniff: Sniff) -> Result<()> {
        // Some clients send a data URL as a text field.
        let bytes = if part.file_name.is_none() && part.bytes.starts_with(b"data:") {
            let text = std::str::from_utf8(&part.bytes).map_err(|_| not_a_data_url(role.name()))?;
            decode_data_url(text, role.name())?
        } else {
            part.bytes.clone()
        };
        self.add(role, bytes, part.file_name.clone(), sniff)
    }

    /// Takes `image`, `images` and `mask` out of a JSON body.
    ///
    /// # Errors
    /// Too many, no data URL, or no picture.
    pub fn from_json(body: &mut Fields<'_>, sniff: Sniff) -> Result<Self> {
        let mut inputs = Inputs::default();
        for (name, role) in [("image", Role::Image), ("images", Role::Image), ("mask", Role::Mask)] {
            let Some(sent) = body.take(name) else { continue };
            let Sent::Json(raw) = sent else { return Err(body.expected(name, "a data URL", &sent)) };
            match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
                Ok(list) if role == Role::Image => {
                    for entry in list {
                        inputs.add_json(role, name, entry, sniff)?;
                    }
                }
                _ => inputs.add_json(role, name, raw, sniff)?,
            }
        }
        Ok(inputs)
    }

    /// A data URL, or an object with one in `image_url`.
    fn add_json(&mut self, role: Role, name: &str, raw: &RawValue, sniff: Sniff) -> Result<()> {
        let url = if raw.get().starts_with('{') {
            let mut object = Fields::from_json(raw.get().as_bytes())?;
            if object.has("file_id") {
                return Err(Error::bad(
                    name,
                    format!(
                        "'{name}.file_id' is not supported: there are no stored files. Send a data URL in image_url."
                    ),
                ));
            }
            match object.take("image_url") {
                Some(Sent::Json(url)) => url,
                _ => return Err(not_a_data_url(name)),
            }
        } else {
            raw
        };
        // Mostly there is nothing to unescape, and the text is read where it is.
        let bytes = match serde_json::from_str::<&str>(url.get()) {
            Ok(text) => decode_data_url(text, name)?,
            Err(_) => {
                let text: String = serde_json::from_str(url.get()).map_err(|_| not_a_data_url(name))?;
                decode_data_url(&text, name)?
            }
        };
        self.add(role, bytes, None, sniff)
    }

    fn add(&mut self, role: Role, bytes: Bytes, file_name: Option<String>, sniff: Sniff) -> Result<()> {
        let param = role.name();
        if role == Role::Mask && self.mask.is_some() {
            return Err(Error::bad(param, "The field 'mask' is there twice.").code("duplicate_parameter"));
        }
        if role == Role::Image && self.pictures.len() == MAX_INPUTS {
            return Err(Error::bad(param, format!("Too many input pictures: at most {MAX_INPUTS} are accepted.")));
        }
        if bytes.is_empty() {
            return Err(Error::bad(param, format!("Invalid '{param}': the file is empty.")).code("invalid_image"));
        }
        let picture = sniff(bytes).map_err(|why| {
            Error::bad(param, format!("Invalid '{param}': not a picture that can be used here: {why}."))
                .code("invalid_image")
        })?;
        let input = InputPicture { picture, file_name };
        match role {
            Role::Image => self.pictures.push(input),
            Role::Mask => self.mask = Some(input),
        }
        Ok(())
    }
}

fn decode_data_url(url: &str, param: &str) -> Result<Bytes> {
    let url = url.trim();
    if ["http://", "https://"]
        .iter()
        .any(|scheme| url.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme)))
    {
        return Err(Error::bad(
            param,
            format!("Invalid '{param}': addresses are not fetched. Send the picture itself, as a file or a data URL."),
        ));
    }
    let is_data = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    let (header, payload) = url.split_once(',').filter(|_| is_data).ok_or_else(|| not_a_data_url(param))?;
    if !header.to_ascii_lowercase().ends_with(";base64") {
        return Err(not_a_data_url(param));
    }
    // Forgiving about line breaks and padding, as browsers are.
    base64_simd::forgiving_decode_to_vec(payload.as_bytes())
        .map(Bytes::from)
        .map_err(|_| Error::bad(param, format!("Invalid '{param}': the base64 of its data URL is broken.")))
}

fn not_a_data_url(param: &str) -> Error {
    Error::bad(
        param,
        format!(
            "Invalid '{param}': expected a data URL such as data:image/png;base64,… or an object with one in image_url."
        ),
    )
    .code("invalid_type")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, Format, Picture};

    fn sniff(bytes: Bytes) -> Result<Picture, String> {
        if !bytes.starts_with(b"PIC") {
            return Err("unknown format".into());
        }
        Ok(Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width: 1, height: 1 })
    }

    fn read(body: &str) -> Result<Inputs> {
        Inputs::from_json(&mut Fields::from_json(body.as_bytes())?, sniff)
    }

    const URL: &str = "data:image/png;base64,UElDMQ==";

    #[test]
    fn every_spelling() {
        for body in [
            format!(r#"{{"image":"{URL}"}}"#),
            format!(r#"{{"image":["{URL}"]}}"#),
            format!(r#"{{"images":[{{"image_url":"{URL}"}}]}}"#),
            format!(r#"{{"images":["{}"]}}"#, URL.replace('/', "\\/")),
        ] {
            let inputs = read(&body).unwrap();
            assert_eq!(inputs.pictures.len(), 1, "{body}");
            assert_eq!(&inputs.pictures[0].picture.bytes[..], b"PIC1");
        }
        let both = read(&format!(r#"{{"image":["{URL}","{URL}"],"mask":{{"image_url":"{URL}"}}}}"#)).unwrap();
        assert_eq!((both.pictures.len(), both.mask.is_some()), (2, true));
    }

    #[test]
    fn what_is_no_picture_is_named() {
        for (body, param) in [
            (r#"{"image":"https://example.com/a.png"}"#, "image"),
            (r#"{"image":"kite.png"}"#, "image"),
            (r#"{"image":7}"#, "image"),
            (r#"{"image":[[1]]}"#, "image"),
            (r#"{"image":"data:image/png;base64,eHh4"}"#, "image"),
            (r#"{"image":"data:image/png;base64,"}"#, "image"),
            (r#"{"image":"data:image/png;base64,*"}"#, "image"),
            (r#"{"image":"data:text/plain,hello"}"#, "image"),
            (r#"{"images":[{"file_id":"f"}]}"#, "images"),
            (r#"{"mask":["data:image/png;base64,UElD"]}"#, "mask"),
            (r#"{"mask":"data:image/png;base64,eHh4"}"#, "mask"),
        ] {
            assert_eq!(read(body).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
        let many = format!(r#"{{"image":[{}]}}"#, vec![format!("\"{URL}\""); 17].join(","));
        assert!(read(&many).unwrap_err().message.contains("at most 16"));
    }

    #[test]
    fn parts() {
        let mut inputs = Inputs::default();
        let part = |bytes: &'static [u8], file: Option<&str>| Part {
            name: "image".into(),
            file_name: file.map(str::to_owned),
            bytes: Bytes::from_static(bytes),
        };
        inputs.add_part(Role::Image, &part(b"PIC2", Some("a.png")), sniff).unwrap();
        inputs.add_part(Role::Image, &part(URL.as_bytes(), None), sniff).unwrap();
        assert_eq!(inputs.pictures[0].file_name.as_deref(), Some("a.png"));
        assert_eq!(&inputs.pictures[1].picture.bytes[..], b"PIC1");
        inputs.add_part(Role::Mask, &part(b"PIC", None), sniff).unwrap();
        assert!(inputs.add_part(Role::Mask, &part(b"PIC", None), sniff).is_err());
        assert!(inputs.add_part(Role::Image, &part(b"", None), sniff).is_err());
        assert_eq!(Role::of("image[]"), Some(Role::Image));
        assert_eq!(Role::of("prompt"), None);
    }
}
