//! The name of a blob.

use std::fmt;
use std::str::FromStr;

use crate::domain::Digest;
use crate::domain::id::{BadId, random};

/// The name of a blob: `ab/DIGEST.NONCE`, where `ab` begins the digest and the nonce is 16 random hex
/// digits. It says what the bytes are and is never used for other bytes, nor for the same ones again.
///
/// In folders of earlier versions there are names without a nonce.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName {
    digest: Digest,
    nonce: Option<u64>,
}

impl BlobName {
    /// A name that nothing has had.
    pub fn fresh(digest: Digest) -> Self {
        // Half of the random bits: two blobs of one digest share a name once in 2⁶⁴ times.
        BlobName { digest, nonce: Some(random() as u64) }
    }

    /// The name without a nonce that earlier versions gave.
    pub const fn legacy(digest: Digest) -> Self {
        BlobName { digest, nonce: None }
    }

    /// What the bytes are.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The folder it is in: the first two digits of the digest.
    pub(super) fn folder(&self) -> String {
        let [first, ..] = self.digest.0;
        format!("{first:02x}")
    }

    /// Folder and file.
    pub(super) fn parts(&self) -> [String; 2] {
        let file = match self.nonce {
            Some(nonce) => format!("{}.{nonce:016x}", self.digest),
            None => self.digest.to_string(),
        };
        [self.folder(), file]
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [folder, file] = self.parts();
        write!(f, "{folder}/{file}")
    }
}

impl fmt::Debug for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for BlobName {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let (_, file) = text.split_once('/').ok_or(BadId)?;
        let (digest, nonce) = match file.split_once('.') {
            Some((digest, nonce)) => (digest, Some(u64::from_str_radix(nonce, 16).map_err(|_| BadId)?)),
            None => (file, None),
        };
        let name = BlobName { digest: digest.parse()?, nonce };
        // One spelling per name: what it would be written as.
        if name.to_string() == text { Ok(name) } else { Err(BadId) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        let digest = Digest::of(b"a kite");
        let (one, two) = (BlobName::fresh(digest), BlobName::fresh(digest));
        assert_ne!(one, two);
        for name in [one, two, BlobName::legacy(digest), BlobName { digest, nonce: Some(7) }] {
            assert_eq!(name.to_string().parse(), Ok(name));
            assert_eq!(name.digest(), digest);
        }
        let hex = digest.to_string();
        let ab = &hex[..2];
        assert_eq!(BlobName::legacy(digest).to_string(), format!("{ab}/{hex}"));
        assert_eq!(BlobName { digest, nonce: Some(7) }.to_string(), format!("{ab}/{hex}.0000000000000007"));
        for wrong in [
            hex.clone(),
            format!("{ab}/{hex}."),
            format!("{ab}/{hex}.7"),
            format!("{ab}/{hex}.+000000000000007"),
            format!("{ab}/{hex}.000000000000000A"),
            format!("{ab}/{hex}.0000000000000007#1"),
            format!("{ab}/{}", hex.to_uppercase()),
            format!("zz/{hex}"),
            format!("{ab}/../{hex}"),
            format!("tmp/{hex}"),
            String::new(),
        ] {
            assert_eq!(wrong.parse::<BlobName>(), Err(BadId), "{wrong}");
        }
    }
}
