//! One device: what it is, what it says, how its upgrades went, and why it has none.

use askama::Template;
use axum::extract::{Path, RawQuery};
use serde::Deserialize;

use super::{
    Device,
    why::{Upgrade, Waits, telling, told},
};
use crate::console::{
    chart::{self, Line, Svg},
    fields::Fields,
    fleet::names::{call_of, page_of},
    listed::{Listed, Pager, query},
    page::{Failure, Paged, page},
    viewer::Viewer,
};

#[derive(Template)]
#[template(path = "fleet/device.html")]
struct DevicePage<'a> {
    at: &'a Viewer,
    device: &'a Device,
    why: String,
    upgrades: &'a [Upgrade],
    /// There are more of them.
    more: bool,
    points: &'a [Point],
    chart: Svg,
}

/// A measurement of a device's coverage.
#[derive(Debug, Deserialize)]
struct Point {
    at: String,
    cell: Option<u32>,
    rsrp_dbm: Option<i32>,
    sinr_db: Option<i32>,
}

#[derive(Debug, Deserialize)]
struct Series {
    points: Vec<Point>,
}

/// The page.
pub(super) async fn show(viewer: Viewer, Path(endpoint): Path<String>) -> Paged {
    let call = call_of(&endpoint);
    let device: Device = viewer.get(&call).await?;
    let upgrades: Listed<Upgrade> = viewer.get(&format!("{call}/upgrades?limit=10")).await?;
    let series: Series = viewer.get(&format!("{call}/series")).await?;
    let telling = telling(&device, &upgrades.items);
    let waits = match telling {
        Some(upgrade) if upgrade.ended_at.is_none() => {
            let path = format!("/v1/upgrades/{}", upgrade.id);
            let waits: Option<Waits> = viewer.look(&path).await?;
            waits.and_then(|it| it.waiting_for)
        }
        _ => None,
    };
    Ok(page(&DevicePage {
        at: &viewer,
        why: told(&viewer, &device, telling, waits.as_deref()),
        device: &device,
        upgrades: &upgrades.items,
        more: upgrades.next_cursor.is_some(),
        chart: drawn(&series.points),
        points: &series.points,
    }))
}

/// The bottom is −140 dBm, and −20 dB; what is below stands at the bottom.
fn drawn(points: &[Point]) -> Svg {
    let at = |point: &Point| point.at.parse::<jiff::Timestamp>().ok();
    let times: Vec<Option<i64>> = (points.iter())
        .map(|point| at(point).map(jiff::Timestamp::as_second))
        .collect();
    let known = || times.iter().flatten();
    let (Some(first), Some(last)) = (known().min(), known().max()) else {
        return Svg::default();
    };
    let span = float(last - first).max(1.0);
    let line = |value: fn(&Point) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = points.iter().zip(&times);
        let points = points
            .filter_map(|(point, at)| Some((float((*at)? - first) / span, value(point)?.max(0.0))));
        points.collect()
    };
    let rsrp = line(|point| Some(f64::from(point.rsrp_dbm?) + 140.0));
    let sinr = line(|point| Some(f64::from(point.sinr_db?) + 20.0));
    chart::lines(&[
        Line {
            class: "busy",
            points: &rsrp,
        },
        Line {
            class: "warn",
            points: &sinr,
        },
    ])
}

fn float(seconds: i64) -> f64 {
    chart::float(seconds.unsigned_abs())
}

#[derive(Template)]
#[template(path = "fleet/device_upgrades.html")]
struct UpgradesPage<'a> {
    at: &'a Viewer,
    endpoint: &'a str,
    upgrades: Vec<Upgrade>,
    pager: Pager,
}

/// All of its upgrades.
pub(super) async fn upgrades(
    viewer: Viewer,
    Path(endpoint): Path<String>,
    RawQuery(given): RawQuery,
) -> Paged {
    let given = super::super::given(given);
    let path = format!("{}/upgrades?{}", call_of(&endpoint), query(&given, &[]));
    let found: Listed<Upgrade> = viewer.get(&path).await?;
    let own = format!("{}/upgrades", page_of(&endpoint));
    let pager = Pager::of(&viewer, &own, &given, found.next_cursor.as_deref());
    Ok(page(&UpgradesPage {
        at: &viewer,
        endpoint: &endpoint,
        upgrades: found.items,
        pager,
    }))
}

/// A device that is to be changed, with its `ETag`.
pub(super) async fn tagged(viewer: &Viewer, endpoint: &str) -> Result<(Device, String), Failure> {
    let answer = viewer.read(&call_of(endpoint)).await?;
    let etag = answer.etag();
    Ok((crate::console::calls::part(answer.body)?, etag))
}

/// A form as it is filled in with what is there.
pub(super) fn filled(device: &Device) -> Fields {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let fields = [
        ("product", device.product.clone()),
        ("model", text(&device.model)),
        ("hardware", text(&device.hardware)),
        ("site", text(&device.site)),
        ("time_zone", text(&device.time_zone)),
        ("tags", device.tag_lines()),
        ("via", text(&device.via)),
        (
            "gateway_limit",
            device
                .gateway_limit
                .map(|it| it.to_string())
                .unwrap_or_default(),
        ),
        ("secure", if device.secure { "1" } else { "" }.to_owned()),
        ("identity", text(&device.psk_identity)),
    ];
    Fields(fields.map(|(name, value)| (name.to_owned(), value)).into())
}
