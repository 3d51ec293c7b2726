//! The identity provider: what it publishes, and what it says of somebody who has logged in there.
//!
//! Whatever comes from it is bounded in size and time. What it publishes is fetched when somebody logs in first, kept for an hour, and
//! fetched anew where a token names a key that is not known, once a minute at most. The server starts without it.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
use tokio::{sync::Semaphore, time::timeout};

use super::http::{FetchError, Http, short, told};
use crate::{api::source::bucket, clock::UtcMillis};

/// What the provider publishes is fetched anew after this.
const KEPT: Duration = Duration::from_hours(1);
/// And not before this, where a token names another key.
const RENEWED_EVERY: Duration = Duration::from_mins(1);
/// A provider that could not be asked is asked again after this.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Clocks of the provider and of this machine may differ by this.
const LEEWAY: Duration = Duration::from_mins(1);
/// Requests to the provider at once.
const AT_ONCE: usize = 16;
/// Of these, for people of one address: whoever makes codes up does not take the places of all.
const AT_ONCE_OF_ADDRESS: usize = 2;
/// How long somebody waits for a place.
const WAIT: Duration = Duration::from_secs(2);
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

/// Claims beyond those that `OpenID` Connect names.
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
#[derive(Clone)]
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

/// Never shows the secret.
impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
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
    /// The places of addresses for which somebody asks, or waits, just now.
    addresses: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// What the provider publishes, as it was fetched last.
#[derive(Debug, Default)]
struct Kept {
    metadata: Option<(CoreProviderMetadata, UtcMillis)>,
    failed: Option<(ProviderError, UtcMillis)>,
}

/// What is remembered of a log-in until its answer comes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::api) struct Asked {
    /// Names the log-in.
    pub(super) state: String,
    /// Binds the token to it.
    pub(super) nonce: String,
    /// Binds the code to it (RFC 7636).
    pub(super) verifier: String,
}

/// Never shows what the log-in is known by.
impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked(not shown)")
    }
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
            addresses: Mutex::default(),
        })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.setup.issuer
    }

    /// Where a browser is sent to log in, and what is to be remembered of it.
    pub(in crate::api) async fn ask(
        &self,
        random: (String, String),
        source: IpAddr,
        now: UtcMillis,
    ) -> Result<(String, Asked), ProviderError> {
        let metadata = match self.known(now, KEPT) {
            Some(known) => known?,
            None => self.in_place(source, self.metadata(now)).await?,
        };
        let party = self.party(&metadata);
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
        source: IpAddr,
        now: UtcMillis,
    ) -> Result<Person, ProviderError> {
        self.in_place(source, self.told_of(code, asked, now)).await
    }

    async fn told_of(
        &self,
        code: String,
        asked: &Asked,
        now: UtcMillis,
    ) -> Result<Person, ProviderError> {
        let metadata = self.metadata(now).await?;
        let party = self.party(&metadata);
        let tokens = party
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| ProviderError::Unavailable(told(&error)))?
            .set_pkce_verifier(PkceCodeVerifier::new(asked.verifier.clone()))
            .request_async(&self.http)
            .await
            .map_err(exchange_failed)?;
        let claims = match Self::claims(&party, &tokens, asked, now) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                let renewed = self.renew(now).await?;
                Self::claims(&self.party(&renewed), &tokens, asked, now)
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

    /// Does what the provider is asked for, once there is a place among all and among those of the address.
    async fn in_place<T>(
        &self,
        source: IpAddr,
        work: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let source = bucket(source);
        let of_address = {
            let mut addresses = self.addresses();
            let new = || Arc::new(Semaphore::new(AT_ONCE_OF_ADDRESS));
            addresses.entry(source).or_insert_with(new).clone()
        };
        let asking = Asking {
            provider: self,
            source,
            of_address,
        };
        let places = timeout(WAIT, async {
            // a semaphore that is never closed has a place for everybody in the end
            let of_address = asking.of_address.acquire().await.ok()?;
            Some((of_address, self.places.acquire().await.ok()?))
        });
        match places.await {
            Ok(Some(_places)) => work.await,
            Ok(None) | Err(_) => Err(ProviderError::Busy),
        }
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        // as of what is kept
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the token (`OpenID` Connect Core §3.1.3.7): who has signed it, for whom, for which log-in, and until when.
    fn claims(
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

    /// The groups that the provider tells when it is asked for them (`OpenID` Connect Core §5.3).
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

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // no change to it can stop half-way
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody asks the provider, or waits for a place.
struct Asking<'p> {
    provider: &'p Provider,
    source: IpAddr,
    of_address: Arc<Semaphore>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut addresses = self.provider.addresses();
        // the table has it, and whoever asks; others come by it under the same lock
        if Arc::strong_count(&self.of_address) <= 2 {
            addresses.remove(&self.source);
        }
    }
}

fn exchange_failed(
    error: RequestTokenError<FetchError, StandardErrorResponse<CoreErrorResponseType>>,
) -> ProviderError {
    match error {
        RequestTokenError::ServerResponse(answer) => {
            ProviderError::Refused(short(&format!("it does not take the code: {answer}")))
        }
        error => ProviderError::Unavailable(told(&error)),
    }
}

fn time(at: UtcMillis) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at.0).unwrap_or_default()
}
