//! Forms with a file, by whoever means harm.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};

use super::{Pages, Shown};

async fn send(pages: &Pages, cookies: &str, body: String) -> Shown {
    let request = Request::post("/console/packages/new")
        .header(header::COOKIE, cookies)
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=x")
        .body(Body::from(body));
    pages.send(request.unwrap()).await
}

#[tokio::test]
async fn what_comes_before_a_file_has_an_end() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &["operator"]).await;
    let endless = "a".repeat(3 << 20);
    let many = "--x\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n\r\n".repeat(60_000);
    for body in [
        // the head of a part, what is around parts, a value, very many empty ones
        format!("--x\r\nContent-Disposition: form-data; name=\"{endless}"),
        endless.clone(),
        format!("--x\r\nContent-Disposition: form-data; name=\"product\"\r\n\r\n{endless}"),
        many,
    ] {
        let shown = send(&pages, &anna.cookies, body).await;
        assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(shown.says("the form cannot be read"), "{shown:?}");
    }
    for body in [
        String::new(),
        "--x--\r\n".to_owned(),
        "--x\r\n\r\n".to_owned(),
    ] {
        let shown = send(&pages, &anna.cookies, body).await;
        assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    // a form of another kind, as it is sent again after a log-in
    let shown = anna.post("/packages/new", &[("version", "V2")]).await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY);
}
