//! Devices in homes, three in each. The demo plays the applications of those who live there, over `/app/v1`: of each home an owner starts the
//! upgrade of one device, has another upgrade by itself, and confirms or refuses what a plan of the operator's would do to the third.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    DemoArgs, Shown, blocking,
    fleet::{self, Plan},
    prepare,
    report::Report,
    segments_served, switched_on,
    watch::Watch,
};
use crate::{
    cli::{
        client::{ApiArgs, Client, CommandError, segment},
        output::remark,
    },
    home::Status,
    server::Server,
};

/// The owner of one home in so many refuses.
const REFUSES_ONE_IN: usize = 5;
/// Between two looks at the homes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// HTTP: the role may not do it.
const FORBIDDEN: u16 = 403;

/// A home, and its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Home {
    id: String,
    /// Its owner starts it.
    started: String,
    /// It is in a plan.
    planned: String,
    /// It upgrades by itself.
    automatic: String,
    /// The owner refuses the plan.
    refuses: bool,
}

impl Home {
    fn devices(&self) -> [&str; 3] {
        [&self.started, &self.planned, &self.automatic]
    }

    fn owner(&self) -> String {
        format!("owner-of-{}", self.id)
    }

    fn member(&self) -> String {
        format!("member-of-{}", self.id)
    }
}

/// Homes of these devices, three in each; who is left over is in none. One that fails is not among those that upgrade by themselves, as far
/// as there are others: they are tried once.
fn homes(plan: &Plan) -> Vec<Home> {
    let count = plan.succeeds.len() / 3;
    let (good, bad): (Vec<_>, Vec<_>) = plan.succeeds.iter().partition(|(_, succeeds)| **succeeds);
    let mut names = good.into_iter().chain(bad).map(|(name, _)| name.clone());
    let automatic: Vec<String> = names.by_ref().take(count).collect();
    let planned: Vec<String> = names.by_ref().take(count).collect();
    let of_three = automatic.into_iter().zip(planned).zip(names).enumerate();
    let homes = of_three.map(|(at, ((automatic, planned), started))| Home {
        id: format!("home-{at}"),
        started,
        planned,
        automatic,
        refuses: at % REFUSES_ONE_IN == REFUSES_ONE_IN / 2,
    });
    homes.collect()
}

/// Has the people of homes upgrade their devices.
pub(super) async fn show(
    args: &DemoArgs,
    server: &Server,
    client: &Arc<Client>,
) -> Result<Shown, String> {
    let specs = fleet::specs(args)?;
    let mut plan = Plan::of(&specs);
    let homes = homes(&plan);
    let in_homes: BTreeSet<&str> = homes.iter().flat_map(Home::devices).collect();
    plan.succeeds
        .retain(|name, _| in_homes.contains(name.as_str()));
    let refused = homes.iter().filter(|home| home.refuses);
    plan.succeeds
        .extend(refused.map(|home| (home.planned.clone(), false)));
    let inventory: Vec<Value> = specs.iter().map(|spec| fleet::entry(spec, None)).collect();
    let content = fleet::content(args.package_kib as usize * 1024, args.seed);
    let planned: Vec<&str> = homes.iter().map(|home| home.planned.as_str()).collect();
    // without its package, which is not uploaded yet
    let task = json!({ "name": "plan", "devices": planned, "confirmation": "device_owner" });
    let app = server.app_addr.ok_or("the server hears no applications")?;
    let admin = client.clone();
    blocking(move || prepare(&admin, &inventory, (content, None), Vec::new())).await?;

    let address = server.dtls_addr.or(server.coap_addr);
    let address = address.ok_or("the server hears no devices")?;
    let devices = switched_on(specs, address).await?;
    let watch = Watch::begin(Duration::from_secs(args.timeout_s));
    let (admin, expected) = (client.clone(), plan.clone());
    let shown = blocking(move || {
        let shown = move_in(&admin, homes, task, app).and_then(|(tasks, mut people)| {
            people.play(&expected, watch)?;
            Ok((people.surprises, watch.look(&admin, &tasks)?))
        });
        shown.map_err(|error| error.to_string())
    })
    .await;
    let (surprises, ended) = shown?;
    let traffic = (segments_served(server), None);
    let report = Report::new(&plan, ended, traffic, None, None);
    Ok((report.with_lanes(Vec::new(), surprises), devices.into()))
}

/// Makes the homes, creates the task of the plan, and offers its package. Returns both tasks, and who lives there.
fn move_in(
    admin: &Client,
    homes: Vec<Home>,
    mut task: Value,
    address: SocketAddr,
) -> Result<(Vec<i64>, People), CommandError> {
    let missing = |what: &str| CommandError::Arguments(format!("the server named no {what}"));
    let (packages, _) = admin.list("/v1/packages", &[], 1)?;
    let package = packages.first().ok_or_else(|| missing("package"))?;
    let apps = homes.into_iter().map(|home| App::of(admin, home, address));
    let apps = apps.collect::<Result<Vec<App>, CommandError>>()?;
    task["package_id"] = package["id"].clone();
    let planned = admin.post("/v1/tasks", &task)?;
    let offer = json!({
        "terms": {
            "channel": 6, "kind": 0, "conditions": {},
            "texts": { "description": { "en": "Better." } },
        },
        "task": { "name": "offer", "package_id": package["id"] },
    });
    let offered = admin.post("/v1/offers", &offer)?;
    let tasks = [planned["id"].as_i64(), offered["task_id"].as_i64()];
    let tasks: Option<Vec<i64>> = tasks.into_iter().collect();
    let people = People {
        apps,
        told: BTreeMap::new(),
        surprises: Vec::new(),
    };
    Ok((tasks.ok_or_else(|| missing("task"))?, people))
}

/// The applications of those who live in a home.
struct App {
    home: Home,
    owner: Client,
    member: Client,
}

impl App {
    /// Of a home, which is made, with its people and their tokens.
    fn of(admin: &Client, home: Home, address: SocketAddr) -> Result<Self, CommandError> {
        let (owner, member) = (home.owner(), home.member());
        let devices = home.devices().map(|name| json!({ "endpoint": name }));
        let body = json!({
            "name": home.id, "zone": "UTC", "things": devices,
            "people": [{ "user": owner, "role": "owner" }, { "user": member, "role": "member" }],
        });
        let body = body.to_string().into_bytes();
        let path = format!("/v1/homes/{}", home.id);
        admin.put_json(&path, body.len() as u64, Cursor::new(body))?;
        let as_user = |user: &str| {
            let issued = admin.post("/v1/app-tokens", &json!({ "user": user }))?;
            Client::new(&ApiArgs {
                api: Some(format!("http://{address}")),
                token: issued["token"].as_str().map(str::to_owned),
                ..ApiArgs::default()
            })
        };
        Ok(Self {
            owner: as_user(&owner)?,
            member: as_user(&member)?,
            home,
        })
    }

    fn path(&self, rest: &str) -> String {
        format!("/app/v1/homes/{}{rest}", self.home.id)
    }

    fn device(&self, name: &str, rest: &str) -> String {
        self.path(&format!("/devices/{}{rest}", segment(name)))
    }

    /// The devices for which there is something.
    fn devices(&self) -> Result<Vec<Value>, CommandError> {
        let mut listed = self.owner.get(&self.path("/upgrades"), &[])?;
        match listed["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Has one device upgrade by itself, and says yes or no to the plan.
    fn decide(&self) -> Result<(), CommandError> {
        let body = json!({ "automatic": true }).to_string().into_bytes();
        let path = self.device(&self.home.automatic, "/automatic");
        self.owner
            .put_json(&path, body.len() as u64, Cursor::new(body))?;
        let planned = &self.home.planned;
        let status = self.owner.get(&self.device(planned, "/status"), &[])?;
        let word = if self.home.refuses {
            "/plan/refuse"
        } else {
            "/plan/confirm"
        };
        let seen = json!({ "upgrade": status["awaiting"]["upgrade"] });
        self.owner.post(&self.device(planned, word), &seen)?;
        Ok(())
    }

    /// Starts what there is for a device; the member tries it first. Returns whether the member was refused.
    fn start(&self, device: &Value) -> Result<bool, CommandError> {
        let first = &device["entries"][0];
        let body = json!({ "entries": [{
            "offer": first["offer"], "target_version": first["target_version"], "current_version": first["current_version"],
        }] });
        let path = self.device(&self.home.started, "/start");
        let refused = match self.member.post(&path, &body) {
            Err(CommandError::Refused(problem)) => problem.status == FORBIDDEN,
            Ok(_) | Err(_) => false,
        };
        self.owner.post(&path, &body)?;
        Ok(refused)
    }
}

/// What all of them do, and are told.
struct People {
    apps: Vec<App>,
    /// How each device has ended.
    told: BTreeMap<String, String>,
    surprises: Vec<String>,
}

impl People {
    /// Decides on everything, starts devices once they are there, and looks until each has ended.
    fn play(&mut self, plan: &Plan, watch: Watch) -> Result<(), CommandError> {
        for app in &self.apps {
            app.decide()?;
        }
        let mut waits: BTreeSet<String> = (self.apps.iter())
            .map(|app| app.home.started.clone())
            .collect();
        while self.told.len() < plan.succeeds.len() {
            if watch.is_over() {
                let missing = plan.succeeds.len() - self.told.len();
                return Err(CommandError::Arguments(format!(
                    "{missing} devices have not ended in time (--timeout-s)"
                )));
            }
            for app in &self.apps {
                for device in app.devices()? {
                    let name = device["device"].as_str().unwrap_or_default();
                    if waits.contains(name) {
                        match app.start(&device) {
                            Ok(refused) => {
                                waits.remove(name);
                                if !refused {
                                    self.surprises.push(format!("a member could start {name}"));
                                }
                            }
                            // it is not there yet
                            Err(CommandError::Refused(_)) => {}
                            Err(error) => return Err(error),
                        }
                    } else if ended(&device["status"]) {
                        let how = device["status"]["status_name"].as_str();
                        let how = how.unwrap_or_default().to_owned();
                        self.told.entry(name.to_owned()).or_insert(how);
                    }
                }
            }
            thread::sleep(LOOK_EVERY);
        }
        let of = self.apps.len();
        remark(&format!(
            "the people of {of} homes were told how each device ended"
        ));
        for (name, how) in &self.told {
            let succeeded = how == Status::Succeeded.name();
            if plan.succeeds.get(name) != Some(&succeeded) {
                self.surprises
                    .push(format!("people were told of {name}: {how}"));
            }
        }
        Ok(())
    }
}

/// Whether an upgrade is over, as an application is told.
fn ended(status: &Value) -> bool {
    let ends = [Status::Succeeded, Status::Failed, Status::TimedOut];
    ends.iter().any(|end| status["status"] == end.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_home_has_three_devices_and_those_that_fail_are_not_left_to_themselves() {
        let mut plan = Plan::of(&[]);
        let name = |at: usize| format!("d{at:02}");
        plan.succeeds = (0..31).map(|at| (name(at), at >= 10)).collect();
        let homes = homes(&plan);
        assert_eq!(homes.len(), 10);
        let all: BTreeSet<&str> = homes.iter().flat_map(Home::devices).collect();
        assert_eq!(all.len(), 30);
        assert!(homes.iter().all(|home| plan.succeeds[&home.automatic]));
        assert_eq!(homes.iter().filter(|home| home.refuses).count(), 2);
    }
}
