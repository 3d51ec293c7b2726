use super::{ResourceId, ResourcePath, Value};

/// What a device tells of its radio connection: resources of Connectivity Monitoring (object 4).
///
/// Firmware implements some of them, and fills others with constants; a value that has the right form
/// is handed on, whether it makes sense is for others to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectivityReading {
    /// Cell ID, /4/0/8. All bits set means that the modem does not know.
    pub cell_id: Option<u32>,
    /// Radio Signal Strength, /4/0/2, in the unit of the device's product: dBm unless it says otherwise.
    pub rsrp: Option<i32>,
    /// `SignalSNR`, /4/0/11, in the unit of the device's product: dB unless it says otherwise.
    pub sinr: Option<i32>,
}

impl ConnectivityReading {
    /// Picks the known resources out of an answer to the read of /4/0 or of one of them.
    pub fn from_values(values: &[(ResourceId, Value)]) -> Self {
        let find = |path| find(values, path);
        let signed = |value: &Value| value.as_integer().and_then(|v| i32::try_from(v).ok());
        Self {
            cell_id: find(ResourcePath::CELL_ID)
                .and_then(Value::as_cell_id)
                .filter(|id| *id != u32::MAX),
            rsrp: find(ResourcePath::RSRP).and_then(signed),
            sinr: find(ResourcePath::SINR).and_then(signed),
        }
    }

    /// What is told as the cell, /4/0/8, and can be no cell's number. `None` also for a modem that does not know.
    pub fn unreadable_cell(values: &[(ResourceId, Value)]) -> Option<&Value> {
        find(values, ResourcePath::CELL_ID).filter(|value| value.as_cell_id().is_none())
    }

    /// Fills what is missing here from another reading: three reads make one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            cell_id: self.cell_id.or(other.cell_id),
            rsrp: self.rsrp.or(other.rsrp),
            sinr: self.sinr.or(other.sinr),
        }
    }
}

fn find(values: &[(ResourceId, Value)], path: ResourcePath) -> Option<&Value> {
    let wanted = path.resource();
    let found = values.iter().find(|(id, _)| Some(*id) == wanted);
    found.map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(values: &[(ResourceId, Value)]) -> (Option<u32>, Option<i32>, Option<i32>) {
        let reading = ConnectivityReading::from_values(values);
        (reading.cell_id, reading.rsrp, reading.sinr)
    }

    #[test]
    fn picks_cell_and_signal_out_of_the_object() {
        let values = [
            (0, Value::Integer(7)),
            (2, Value::Integer(-95)),
            (4, Value::Text("10.0.0.1".into())),
            (8, Value::Integer(0x0ABC_DEF1)),
            (11, Value::Float(6.6)),
        ];
        assert_eq!(reading(&values), (Some(0x0ABC_DEF1), Some(-95), Some(7)));
        assert_eq!(reading(&[]), (None, None, None));
    }

    #[test]
    fn a_value_out_of_range_is_no_value() {
        for (value, cell, rsrp) in [
            (Value::Integer(i64::from(u32::MAX) + 1), None, None),
            (Value::Integer(i64::from(u32::MAX)), None, None),
            (Value::Integer(-1), None, Some(-1)),
            (Value::Integer(i64::from(i32::MIN) - 1), None, None),
            (Value::Text("unknown".into()), None, None),
            (Value::Untyped(vec![0xFF; 4]), None, Some(-1)),
            (Value::Untyped(vec![]), None, None),
            (Value::Float(f64::NAN), None, None),
        ] {
            let values = [(8, value.clone()), (2, value.clone())];
            assert_eq!(reading(&values), (cell, rsrp, None), "{value:?}");
        }
    }

    #[test]
    fn tells_a_cell_that_is_none_from_one_that_is_not_told() {
        let told = |value: Value| ConnectivityReading::unreadable_cell(&[(8, value)]).is_some();
        assert!(told(Value::Text("unknown".into())));
        assert!(told(Value::Integer(-1)));
        assert!(told(Value::Untyped(vec![])));
        assert!(!told(Value::Integer(17)));
        assert!(
            !told(Value::Untyped(vec![0xFF; 4])),
            "the modem does not know"
        );
        let other = [(2, Value::Text("unknown".into()))];
        assert_eq!(ConnectivityReading::unreadable_cell(&other), None);
    }

    #[test]
    fn three_reads_make_one_reading() {
        let first = ConnectivityReading::from_values(&[(8, Value::Text("17".into()))]);
        let second = ConnectivityReading::from_values(&[(2, Value::Text("-101.0".into()))]);
        let third = ConnectivityReading::from_values(&[(11, Value::Untyped(vec![0xFD]))]);
        let all = first.or(second).or(third);
        assert_eq!(
            (all.cell_id, all.rsrp, all.sinr),
            (Some(17), Some(-101), Some(-3))
        );
    }
}
