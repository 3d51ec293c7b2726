//! The identity provider: what it publishes, and what it says of somebody who has logged in there.
//!
//! Whatever comes from it is bounded in size and time. What it publishes is fetched when somebody logs in first, kept for an hour, and
//! fetched anew where a token names a key that is not known, once a minute at most. The server starts without it.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode,
    ClaimsVerificationError, Client, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, IdTokenClaims, IdTokenFields, IssuerUrl, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError,
    Scope, SignatureVerificationError, StandardErrorResponse, StandardTokenResponse, TokenResponse,
    UserInfoClaims, UserInfoError,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType,
        CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreResponseType, CoreRevocableToken,
        CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use tokio::sync::{Semaphore, TryAcquireError};

use super::http::{FetchError, Http, told};
use crate::clock::UtcMillis;

/// What the provider publishes is fetched anew after this.
const KEPT: Duration = Duration::from_hours(1);
/// And not before this, where a token names another key.
const RENEWED_EVERY: Duration = Duration::from_mins(1);
/// A provider that could not be asked is asked again after this.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Clocks of the provider and of this machine may differ by this.
const LEEWAY: Duration = Duration::from_mins(1);
/// People who are looked at, at once.
const AT_ONCE: usize = 16;
/// Groups of somebody that are looked at.
const MAX_GROUPS: usize = 1_000;
/// What signs tokens. A secret that is shared with the provider does not: whoever checks it could make them.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Claims beyond those that OpenID Connect names.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
struct Claims {
    #[serde(flatten)]
    fields: BTreeMap<String, Value>,
}

impl AdditionalClaims for Claims {}

type Fields = IdTokenFields<
    Claims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type Tokens = StandardTokenResponse<Fields, CoreTokenType>;

type RelyingParty = Client<
    Claims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Why somebody was not told of.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in crate::api) enum ProviderError {
    /// It was not reached, or did not answer what it should.
    #[error("{0}")]
    Unavailable(String),
    /// It refuses, or its token does.
    #[error("{0}")]
    Refused(String),
    /// Too many people log in.
    #[error("too many people log in at once")]
    Busy,
}

/// Why the provider cannot be asked with these settings.
#[derive(Debug, Error)]
pub(super) enum SetupError {
    /// No URL.
    #[error("{setting}: {problem}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// What is asked for, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) client_secret: Option<String>,
    /// Authorities in PEM; `None`: those that the system trusts.
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) redirect_uri: String,
    pub(super) scopes: Vec<String>,
    pub(super) groups_claim: String,
}

/// The provider.
#[derive(Debug)]
pub(in crate::api) struct Provider {
    setup: Setup,
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    http: Http,
    kept: Mutex<Kept>,
    /// One fetches, and the others wait for it.
    fetching: tokio::sync::Mutex<()>,
    places: Semaphore,
}

/// What the provider publishes, as it was fetched last.
#[derive(Debug, Default)]
struct Kept {
    metadata: Option<(CoreProviderMetadata, UtcMillis)>,
    failed: Option<(ProviderError, UtcMillis)>,
}

/// What is remembered of a log-in until its answer comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::api) struct Asked {
    /// Names the log-in.
    pub(super) state: String,
    /// Binds the token to it.
    pub(super) nonce: String,
    /// Binds the code to it (RFC 7636).
    pub(super) verifier: String,
}

/// Somebody who has logged in at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct Person {
    /// What never changes, and is nobody else's there.
    pub(in crate::api) subject: String,
    /// What the provider suggests as a name.
    pub(super) name: String,
    /// The groups, as the claim of the settings names them.
    pub(in crate::api) groups: Vec<String>,
}

impl Provider {
    pub(super) fn new(setup: Setup) -> Result<Self, SetupError> {
        let setting = |setting| {
            move |error: &dyn Error| SetupError::Setting {
                setting,
                problem: told(error),
            }
        };
        let issuer = IssuerUrl::new(setup.issuer.clone());
        let redirect = RedirectUrl::new(setup.redirect_uri.clone());
        Ok(Self {
            issuer: issuer.map_err(|error| setting("oidc.issuer")(&error))?,
            redirect: redirect.map_err(|error| setting("admin.public_url")(&error))?,
            http: Http::new(setup.authorities.as_deref())
                .map_err(|error| setting("oidc.ca_file")(&error))?,
            setup,
            kept: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            places: Semaphore::new(AT_ONCE),
        })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.setup.issuer
    }

    /// Where a browser is sent to log in, and what is to be remembered of it.
    pub(in crate::api) async fn ask(
        &self,
        random: (String, String),
        now: UtcMillis,
    ) -> Result<(String, Asked), ProviderError> {
        let _place = self.place()?;
        let party = self.party(&self.metadata(now).await?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (state, nonce) = random;
        let request = party.authorize_url(
            AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
            || CsrfToken::new(state),
            || Nonce::new(nonce),
        );
        let scopes = self.setup.scopes.iter().filter(|scope| *scope != "openid");
        let (url, state, nonce) = request
            .add_scopes(scopes.cloned().map(Scope::new))
            .set_pkce_challenge(challenge)
            .url();
        let asked = Asked {
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
        };
        Ok((url.into(), asked))
    }

    /// Who has logged in with this code.
    pub(in crate::api) async fn person(
        &self,
        code: String,
        asked: &Asked,
        now: UtcMillis,
    ) -> Result<Person, ProviderError> {
        let _place = self.place()?;
        let metadata = self.metadata(now).await?;
        let party = self.party(&metadata);
        let tokens = party
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| ProviderError::Unavailable(told(&error)))?
            .set_pkce_verifier(PkceCodeVerifier::new(asked.verifier.clone()))
            .request_async(&self.http)
            .await
            .map_err(exchange_failed)?;
        let claims = match self.claims(&party, &tokens, asked, now) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                let renewed = self.renew(now).await?;
                self.claims(&self.party(&renewed), &tokens, asked, now)
            }
            verified => verified,
        };
        let claims = claims.map_err(|error| {
            ProviderError::Refused(format!("its token is not valid: {}", told(&error)))
        })?;
        let mut groups = self.groups(claims.additional_claims());
        if groups.is_none() && metadata.userinfo_endpoint().is_some() {
            groups = self.asked_groups(&party, &tokens, &claims).await?;
        }
        let text = |claim: Option<&str>| claim.filter(|it| !it.is_empty()).map(str::to_owned);
        let name = text(claims.preferred_username().map(|it| it.as_str()));
        let name = name.or_else(|| text(claims.email().map(|it| it.as_str())));
        let subject = claims.subject().as_str().to_owned();
        // OpenID Connect Core §2: it has 255 ASCII characters at most
        if subject.is_empty() || subject.len() > 255 {
            let what = "its token names somebody by no text of 1 to 255 bytes";
            return Err(ProviderError::Refused(what.to_owned()));
        }
        Ok(Person {
            name: name.unwrap_or_else(|| subject.clone()),
            subject,
            groups: groups.unwrap_or_default(),
        })
    }

    fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ProviderError> {
        self.places.try_acquire().map_err(|error| match error {
            TryAcquireError::NoPermits | TryAcquireError::Closed => ProviderError::Busy,
        })
    }

    /// Checks the token (OpenID Connect Core §3.1.3.7): who has signed it, for whom, for which log-in, and until when.
    fn claims(
        &self,
        party: &RelyingParty,
        tokens: &Tokens,
        asked: &Asked,
        now: UtcMillis,
    ) -> Result<IdTokenClaims<Claims, CoreGenderClaim>, ClaimsVerificationError> {
        let other = |what: &str| ClaimsVerificationError::Other(what.to_owned());
        let token = tokens.id_token().ok_or_else(|| other("there is none"))?;
        let (early, late) = (time(now.before(LEEWAY)), time(now + LEEWAY));
        let verifier = party
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || early)
            .set_issue_time_verifier_fn(move |issued| {
                let past = issued <= late;
                past.then_some(())
                    .ok_or_else(|| format!("it is issued at {issued}, which is yet to come"))
            });
        let claims = token.claims(&verifier, &Nonce::new(asked.nonce.clone()))?;
        if let Some(expected) = claims.access_token_hash() {
            let actual = AccessTokenHash::from_token(
                tokens.access_token(),
                token
                    .signing_alg()
                    .map_err(ClaimsVerificationError::SignatureVerification)?,
                token
                    .signing_key(&verifier)
                    .map_err(ClaimsVerificationError::SignatureVerification)?,
            );
            if actual.is_ok_and(|actual| actual != *expected) {
                return Err(other("the access token beside it is not its own"));
            }
        }
        Ok(claims.clone())
    }

    /// The groups that are among claims; `None`: the claim is not there.
    fn groups(&self, claims: &Claims) -> Option<Vec<String>> {
        let found = claims.fields.get(&self.setup.groups_claim)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(match found {
            Value::Array(groups) => groups.iter().take(MAX_GROUPS).filter_map(text).collect(),
            one => text(one).into_iter().collect(),
        })
    }

    /// The groups that the provider tells when it is asked for them (OpenID Connect Core §5.3).
    async fn asked_groups(
        &self,
        party: &RelyingParty,
        tokens: &Tokens,
        claims: &IdTokenClaims<Claims, CoreGenderClaim>,
    ) -> Result<Option<Vec<String>>, ProviderError> {
        let unavailable = |error: &dyn Error| ProviderError::Unavailable(told(error));
        let subject = Some(claims.subject().clone());
        let request = party.user_info(tokens.access_token().clone(), subject);
        let request = request.map_err(|error| unavailable(&error))?;
        let answer: Result<UserInfoClaims<Claims, CoreGenderClaim>, _> =
            request.request_async(&self.http).await;
        match answer {
            Ok(answer) => Ok(self.groups(answer.additional_claims())),
            Err(UserInfoError::ClaimsVerification(error)) => {
                Err(ProviderError::Refused(told(&error)))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    fn party(&self, metadata: &CoreProviderMetadata) -> RelyingParty {
        let secret = self.setup.client_secret.clone().map(ClientSecret::new);
        let id = ClientId::new(self.setup.client_id.clone());
        let party = RelyingParty::from_provider_metadata(metadata.clone(), id, secret);
        let methods = metadata.token_endpoint_auth_methods_supported();
        let has = |method: CoreClientAuthMethod| methods.is_some_and(|it| it.contains(&method));
        let in_body = has(CoreClientAuthMethod::ClientSecretPost)
            && !has(CoreClientAuthMethod::ClientSecretBasic);
        let auth_type = if in_body {
            AuthType::RequestBody
        } else {
            AuthType::BasicAuth
        };
        party
            .set_redirect_uri(self.redirect.clone())
            .set_auth_type(auth_type)
    }

    /// What the provider publishes, as it was fetched within [`KEPT`].
    async fn metadata(&self, now: UtcMillis) -> Result<CoreProviderMetadata, ProviderError> {
        self.fetched(now, KEPT).await
    }

    /// The same, within [`RENEWED_EVERY`].
    async fn renew(&self, now: UtcMillis) -> Result<CoreProviderMetadata, ProviderError> {
        self.fetched(now, RENEWED_EVERY).await
    }

    async fn fetched(
        &self,
        now: UtcMillis,
        within: Duration,
    ) -> Result<CoreProviderMetadata, ProviderError> {
        if let Some(known) = self.known(now, within) {
            return known;
        }
        let _one = self.fetching.lock().await;
        if let Some(known) = self.known(now, within) {
            return known;
        }
        let fetched = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await;
        let mut kept = self.kept();
        match fetched {
            Ok(metadata) => {
                kept.failed = None;
                kept.metadata = Some((metadata.clone(), now));
                Ok(metadata)
            }
            Err(error) => {
                let issuer = &self.setup.issuer;
                let error = told(&error);
                tracing::warn!(issuer, error, "the identity provider cannot be asked");
                let error = ProviderError::Unavailable(error);
                kept.failed = Some((error.clone(), now));
                // what was known before is better than nothing
                let known = kept.metadata.as_ref();
                known.map_or(Err(error), |(metadata, _)| Ok(metadata.clone()))
            }
        }
    }

    fn known(
        &self,
        now: UtcMillis,
        within: Duration,
    ) -> Option<Result<CoreProviderMetadata, ProviderError>> {
        let kept = self.kept();
        if let Some((metadata, at)) = &kept.metadata
            && now.since(*at) < within
        {
            return Some(Ok(metadata.clone()));
        }
        let (error, at) = kept.failed.as_ref()?;
        if now.since(*at) >= AFTER_FAILURE {
            return None;
        }
        let known = kept.metadata.as_ref();
        Some(known.map_or_else(|| Err(error.clone()), |(metadata, _)| Ok(metadata.clone())))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // no change to it can stop half-way
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exchange_failed(
    error: RequestTokenError<FetchError, StandardErrorResponse<CoreErrorResponseType>>,
) -> ProviderError {
    match error {
        RequestTokenError::ServerResponse(answer) => {
            ProviderError::Refused(format!("it does not take the code: {answer}"))
        }
        error => ProviderError::Unavailable(told(&error)),
    }
}

fn time(at: UtcMillis) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at.0).unwrap_or_default()
}
