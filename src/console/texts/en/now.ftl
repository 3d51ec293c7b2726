now = Now
