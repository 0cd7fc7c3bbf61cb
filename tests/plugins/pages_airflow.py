"""What there is in the Airflow of these tests."""

DAG = "campaign"
"""A DAG that everybody may see."""
THEIR_DAG, TEAM = "theirs", "red"
"""A DAG of a team, and the team."""
