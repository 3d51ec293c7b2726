//! Which pages of other origins may call from a browser (Fetch standard, CORS protocol): those that the settings list, and no others.
//!
//! A token is sent in a header, never in a cookie: no answer allows credentials.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::Problem;
use crate::config::Settings;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT");
const HEADERS: HeaderValue =
    HeaderValue::from_static("Accept-Language, Authorization, Content-Type, Last-Event-ID");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate");
/// Seconds for which a browser may keep the answer to a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Answers preflights, and tells browsers which answers a page may read.
pub(super) async fn cors(
    State(settings): State<Settings>,
    request: Request,
    next: Next,
) -> Response {
    let listed = &settings.get().app.cors_origins;
    if listed.is_empty() {
        return next.run(request).await;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed =
        origin.filter(|origin| listed.iter().any(|it| it.as_bytes() == origin.as_bytes()));
    let mut response = if is_preflight(request.method(), request.headers()) {
        match &allowed {
            Some(_) => preflight(),
            None => not_listed().into_response(),
        }
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn not_listed() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "origin-refused",
        "Pages of this origin may not call",
        "the operator lists the origins of pages that may, in app.cors_origins",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::Config;

    const OURS: &str = "https://app.example.com";

    async fn call(listed: &[&str], method: &str, headers: &[(&str, &str)]) -> Response {
        let mut config = Config::default();
        config.app.cors_origins = listed.iter().map(|it| (*it).to_owned()).collect();
        let settings = Settings::new(Arc::new(config));
        let router = Router::new()
            .route("/x", get(|| async { "fine" }))
            .layer(from_fn_with_state(settings, cors));
        let mut request = Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    fn allowed(response: &Response) -> Option<&str> {
        let value = response
            .headers()
            .get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(value.to_str().unwrap())
    }

    #[tokio::test]
    async fn a_page_of_a_listed_origin_may_call_and_no_other() {
        let preflight = |origin| {
            [
                ("origin", origin),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "authorization"),
            ]
        };
        let response = call(&[OURS], "OPTIONS", &preflight(OURS)).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(allowed(&response), Some(OURS));
        let methods = &response.headers()[header::ACCESS_CONTROL_ALLOW_METHODS];
        assert_eq!(methods, "GET, POST, PUT");
        for origin in [
            "https://evil.example.com",
            "null",
            "https://app.example.com.evil.com",
        ] {
            let response = call(&[OURS], "OPTIONS", &preflight(origin)).await;
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{origin}");
            assert_eq!(allowed(&response), None, "{origin}");
            let response = call(&[OURS], "GET", &[("origin", origin)]).await;
            assert_eq!(allowed(&response), None, "{origin}");
        }
        // whoever lists none lets none in, and nobody sees CORS at all
        let response = call(&[], "OPTIONS", &preflight(OURS)).await;
        assert_eq!(
            (response.status(), allowed(&response)),
            (StatusCode::METHOD_NOT_ALLOWED, None)
        );
    }

    #[tokio::test]
    async fn answers_vary_with_the_origin_and_allow_no_credentials() {
        for headers in [&[("origin", OURS)][..], &[]] {
            let response = call(&[OURS], "GET", headers).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[header::VARY], "Origin");
            let credentials = header::ACCESS_CONTROL_ALLOW_CREDENTIALS;
            assert!(!response.headers().contains_key(credentials));
        }
        // what asks for a method is no preflight without an origin
        let asks = [("access-control-request-method", "POST")];
        let response = call(&[OURS], "OPTIONS", &asks).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
