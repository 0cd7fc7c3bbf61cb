import pytest
@pytest.mark.parametrize("ledger_connection", ["postgresql","sqlite"], indirect=True)
def test_it(login, make_open):
    make_open("ada@example.com", "bob@example.com", scope="<script>alert(1)</script>")
    make_open("cy@example.com")
    who = login("admin")
    for path in ("/campaigns", "/campaign?scope=q4", "/held", "/person", "/account", "/run?dag_id=campaign&run_id=run-1&task_id=gifts&map_index={MAP_INDEX}"):
        a = who.get(path)
        print(path, a.status_code, a.headers.get("location"))
        if a.status_code != 200: print(a.text)
    print(who.get("/held").text)
    a = who.get("/campaigns?sort=active&state=held&q=scr"); print(a.text)
    p = who.post("/person", conn="sendoso_default", email="Ada@example.com"); print(p.status_code, p.text)
    print(login(None).get("/campaigns").status_code)
    print(login("viewer").get("/held").text.count("checkbox"))
