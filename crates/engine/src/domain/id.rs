//! Identifiers. Each is its own type, so that one cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A blake3 hash of 256 bits: a cache key, or the content of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not an identifier of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid identifier")]
pub struct BadId;

impl FromStr for Digest {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let hex = blake3::Hash::from_hex(text).map_err(|_| BadId)?;
        Ok(Digest(*hex.as_bytes()))
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl $name {
            /// A fresh one.
            pub fn random() -> Self {
                $name(random())
            }

            /// A fresh one that sorts by its time, in milliseconds since the Unix epoch: 48 bits of time,
            /// 80 random ones. New rows then stand side by side in an index, instead of all over it.
            pub fn at(ms: i64) -> Self {
                $name((u128::from(ms.unsigned_abs()) << 80) | (random() >> 48))
            }

            /// From the bytes of [`Self::to_bytes`].
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                $name(u128::from_be_bytes(bytes))
            }

            /// As stored.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// What its text form begins with.
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl Serialize for $name {
            /// As its text.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            /// From its text.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let hex = text.strip_prefix(concat!($prefix, "_")).ok_or(BadId)?;
                // One spelling per identifier: 32 lower-case hex digits.
                if hex.len() != 32 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(BadId);
                }
                u128::from_str_radix(hex, 16).map($name).map_err(|_| BadId)
            }
        }
    };
}

/// 128 bits from the operating system's generator.
///
/// # Panics
/// Never in practice: only if the operating system has no randomness, and then nothing may go on.
pub fn random() -> u128 {
    let mut bytes = [0; 16];
    #[expect(clippy::expect_used, reason = "without randomness no identifier would be a secret")]
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    u128::from_le_bytes(bytes)
}

random_id!(
    /// One request of a caller, from its arrival to its answer.
    RequestId,
    "req"
);
random_id!(
    /// One call to a provider that may cost money.
    AttemptId,
    "att"
);
random_id!(
    /// A stored picture. The 128 random bits are the right to fetch it (see `http::media`).
    ImageId,
    "img"
);
random_id!(
    /// What was asked for with a draft: the same for the same.
    WishId,
    "wish"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = ImageId(7);
        assert_eq!(id.to_string().parse::<ImageId>(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<ImageId>().is_err());
        assert!(id.to_string().replace("img", "req").parse::<ImageId>().is_err());
        assert!("img_7".parse::<ImageId>().is_err());
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    }
}
