now = 当前
