//! Key files of service accounts and of users who have signed in, which are exchanged for access tokens.

use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;

use super::private;
use super::token::Grant;
use crate::clock::Millis;
use crate::secret::Secret;

/// How long an assertion may be used, in seconds: the longest that is accepted, because clocks differ.
const LIFE_S: i64 = 3600;

/// What is in a key file, as far as it is needed.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum KeyFile {
    ServiceAccount { client_email: String, private_key: String, private_key_id: Option<String>, token_uri: String },
    AuthorizedUser { client_id: String, client_secret: String, refresh_token: String },
}

/// A service account: who it is, and the key that it signs with.
pub(super) struct ServiceAccount {
    email: String,
    key: RsaKeyPair,
    key_id: Option<String>,
    scope: String,
}

/// Where tokens are fetched for the key file in `key`, and for what. `default` is where, if the file does not say it.
///
/// # Errors
/// A sentence that does not repeat the key.
pub(super) fn grant(key: &Secret, scope: String, default: Option<Url>) -> Result<(Url, Grant), String> {
    // Without the parser's own words, which repeat what they stumble over.
    let file: KeyFile = serde_json::from_str(key.reveal()).map_err(|_| {
        "its key is not the JSON of a service account; name the file itself: api_key = { file = \"PATH\" }".to_owned()
    })?;
    match file {
        KeyFile::ServiceAccount { client_email, private_key, private_key_id, token_uri } => {
            let wrong = |what: &str| format!("its key file has a private_key that {what}; have a new one made");
            let der = PrivatePkcs8KeyDer::from_pem_slice(private_key.as_bytes())
                .map_err(|_| wrong("is no PEM text of a private key"))?;
            let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| wrong("is no RSA key"))?;
            let account = ServiceAccount { email: client_email, key, key_id: private_key_id, scope };
            Ok((private(&token_uri, "token_uri of its key file")?, Grant::Account(Box::new(account))))
        }
        KeyFile::AuthorizedUser { client_id, client_secret, refresh_token } => {
            let url =
                default.ok_or("its key file is a user's, for which its record would have to say auth.token_url")?;
            let (secret, refresh) = (Secret::new(client_secret), Secret::new(refresh_token));
            Ok((url, Grant::User { id: client_id, secret, refresh }))
        }
    }
}

impl ServiceAccount {
    /// The signed statement (a JWT, RS256) that is exchanged for a token at `audience`.
    pub(super) fn assertion(&self, audience: &Url, now: Millis) -> Result<String, &'static str> {
        let seconds = now.div_euclid(1000);
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let (Some(id), Some(header)) = (&self.key_id, header.as_object_mut()) {
            header.insert("kid".to_owned(), id.as_str().into());
        }
        let claims = json!({
            "iss": self.email, "scope": self.scope, "aud": audience.as_str(), "iat": seconds, "exp": seconds + LIFE_S,
        });
        let encode = |bytes: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
        let mut statement =
            format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), statement.as_bytes(), &mut signature)
            .map_err(|_| "its key cannot sign")?;
        statement.push('.');
        statement.push_str(&encode(&signature));
        Ok(statement)
    }
}
