"""Calls every operation of the OpenAPI document through a client that was generated from it.

    generated_client.py FOLDER URL KEY

FOLDER has the document, `openapi.json`, and the client, the package `client`. What a client understood of
an answer has to be all that was in it.
"""

import importlib
import json
import sys
from datetime import datetime
from pathlib import Path

folder, url, key = sys.argv[1:]
sys.path.insert(0, folder)
models = importlib.import_module("client.models")
client = importlib.import_module("client").AuthenticatedClient(base_url=url, token=key)

document = json.loads((Path(folder) / "openapi.json").read_text())
TAGS = {
    operation["operationId"]: operation["tags"][0]
    for item in document["paths"].values()
    for operation in item.values()
}
called = set()


def module(operation):
    called.add(operation)
    name = operation + "_" if operation == "list" else operation
    return importlib.import_module(f"client.api.{TAGS[operation]}.{name}")


def written(parsed):
    """What was understood, as JSON."""
    if isinstance(parsed, list):
        return [written(one) for one in parsed]
    return parsed.to_dict() if hasattr(parsed, "to_dict") else parsed


def assert_same(understood, sent, where):
    if isinstance(sent, dict):
        assert isinstance(understood, dict) and understood.keys() == sent.keys(), (where, understood, sent)
        for name in sent:
            assert_same(understood[name], sent[name], f"{where}.{name}")
    elif isinstance(sent, list):
        assert len(understood) == len(sent), where
        for one, other in zip(understood, sent):
            assert_same(one, other, where)
    elif understood != sent:
        assert datetime.fromisoformat(understood) == datetime.fromisoformat(sent), (where, understood, sent)


def call(operation, *path, expect=200, **arguments):
    """Calls an operation on the account `demo`, unless `account` is another."""
    scoped = "{account}" in next(p for p, i in document["paths"].items() for o in i.values() if o["operationId"] == operation)
    account = arguments.pop("account", "demo")
    arguments = {"client": client, **arguments}
    answer = module(operation).sync_detailed(*((account, *path) if scoped else path), **arguments)
    assert answer.status_code == expect, (operation, answer.status_code, answer.content)
    assert answer.headers["x-request-id"], operation
    if answer.content and answer.headers["content-type"].startswith("application/"):
        assert answer.parsed is not None, operation
        assert_same(written(answer.parsed), json.loads(answer.content), operation)
    return answer


def place(**fields):
    body = models.NewOrder(symbol="EURUSD", **fields)
    answer = call("place_order", body=body, expect=201)
    assert answer.headers["location"].endswith(answer.parsed.trade_id)
    return answer.parsed


# What there is
assert [account.name for account in call("list").parsed] == ["demo"]
session = call("one").parsed.sessions[0]
assert session.state is models.SessionState.READY and session.since.tzinfo is not None, session
assert call("ping").parsed.mode is models.Mode.SIMULATED
assert call("error").parsed.code is models.ErrorCode.SUCCESS
call("version")
call("terminal")
assert call("account").parsed.margin_mode is models.MarginMode.RETAIL_HEDGING
assert "EURUSD" in call("symbols", group="*USD*").parsed
assert call("symbols_total").parsed >= 1
assert call("symbol", "EURUSD").parsed.trade_mode is models.SymbolTradeMode.FULL
tick = call("tick", "EURUSD").parsed
assert isinstance(call("book", "EURUSD").parsed[0].type_, models.BookType)
assert call("select", "EURUSD", body=models.Select(enable=True)).parsed.enable is True

# The past
day = datetime.fromisoformat("2020-01-06T00:00:00+00:00")
bars = call("rates", "EURUSD", timeframe=models.RatesTimeframe.H1, from_=day, to="2020.01.06 12:00:00")
assert len(bars.parsed) == 13, len(bars.parsed)
again = {"timeframe": models.RatesTimeframe.H1, "from_": int(day.timestamp()), "to": "2020.01.06 12:00:00"}
call("rates", "EURUSD", **again, if_none_match=bars.headers["etag"], expect=304)
assert len(call("ticks", "EURUSD", count=-5, flags=models.TicksFlags.INFO).parsed) == 5

# Positions
stops = {"sl": round(tick.bid * 0.9, 5), "tp": round(tick.bid * 1.1, 5)}
long = place(type_=models.OrderTypeName.BUY, volume=0.2, comment="a long one")
assert long.retcode is models.Retcode.DONE, long.retcode
short = place(type_=1, volume=0.1, type_filling=models.FillingName.FOK)
named = {"body": models.NewOrder(symbol="EURUSD", type_=models.OrderTypeName.BUY, volume=0.1), "idempotency_key": "one"}
first = call("place_order", **named, expect=201)
second = call("place_order", **named, expect=201)
assert first.parsed == second.parsed
assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
assert call("positions_total").parsed == 3
assert len(call("positions", symbol="EURUSD").parsed) == 3
assert call("position", short.position).parsed.type_ is models.PositionType.SELL
call("modify_position", long.position, body=models.PositionChange(sl=stops["sl"], tp=stops["tp"]))
both = models.CloseBy(symbol="EURUSD", position=first.parsed.position, position_by=short.position)
call("place_order", body=both)
call("close_position_with", long.position, body=models.PositionClose(volume=0.1))
call("close_position", long.position, deviation=5, send_within=5.0)
gone = call("position", long.position, expect=404).parsed
assert gone.type_ == models.ProblemType("/problems/not-found") and gone.status == 404, gone

# Pending orders
price = round(tick.bid * 0.95, 5)
pending = models.NewOrder(symbol="EURUSD", type_=models.OrderTypeName.BUY_LIMIT, volume=0.1, price=price)
assert call("check_order", body=pending).parsed.retcode_name == "ok"
placed = call("place_order", body=pending, expect=201).parsed
assert call("orders_total").parsed == 1
assert call("orders").parsed[0].type_ is models.OrderType.BUY_LIMIT
lifetime = {"type_time": models.OrderTimeName.SPECIFIED, "expiration": 4_000_000_000}
call("modify_order", placed.order, body=models.OrderChange(**lifetime))
order = call("order", placed.order).parsed
assert order.type_time is models.OrderTime.SPECIFIED and order.state is models.OrderState.PLACED, order
call("cancel_order", placed.order)
poor = models.NewOrder(symbol="EURUSD", type_=models.OrderTypeName.BUY, volume=100)
refused = call("place_order", body=poor, expect=422).parsed
assert refused.mt5.code is models.Retcode.NO_MONEY and refused.result.retcode_name == "no_money", refused

# What became of it
assert call("history_orders_total", from_=0).parsed == len(call("history_orders", from_=0).parsed) > 0
assert call("history_deals_total", from_="today").parsed == len(call("history_deals", from_="today").parsed)
deal = call("history_deals", position=long.position).parsed[0]
assert (deal.type_, deal.entry) == (models.DealType.BUY, models.DealEntry.IN), deal
assert call("trades", state=models.State.EXECUTED, limit=3).parsed[0].state is models.State.EXECUTED
trade = call("trade", long.trade_id).parsed
assert trade.operation is models.Operation.PLACE and trade.request.action is models.TradeAction.DEAL, trade
settled = models.ResolvedAsExecuted(state=models.ResolvedAsExecutedState.EXECUTED, order=long.order, reason="seen")
decided = call("resolve_trade", long.trade_id, body=settled, expect=409).parsed
assert decided.type_ == models.ProblemType("/problems/trade-not-resolvable"), decided
volume = {"symbol": "EURUSD", "volume": 0.1}
assert call("calc_margin", action=models.CalcMarginAction.BUY, price=tick.ask, **volume).parsed.margin > 0
prices = {"price_open": tick.ask, "price_close": tick.bid}
assert call("calc_profit", action=models.CalcProfitAction.BUY, **prices, **volume).parsed.profit <= 0

# An endless answer, of which the first event is read
request = module("stream")._get_kwargs("demo", symbols="EURUSD", events="ticks")
with client.get_httpx_client().stream(**request) as answer:
    assert answer.headers["content-type"] == "text/event-stream" and answer.headers["x-request-id"]
    assert any(line == "event: ticks" for line in answer.iter_lines())

# The gateway itself
if "root" in TAGS:
    call("root")
assert call("livez").parsed.status == "ok"
assert call("readyz").parsed.accounts["demo"].sessions == 1
assert "http_requests_total" in call("metrics").parsed
assert call("console").parsed.accounts[0].name == "demo"
assert call("reload").parsed.applied == []
assert call("restart", expect=202).parsed.sessions == 1

# Accounts that come and go
terminal = models.AccountTerminal(kind="simulator")
settings = models.AccountSettings(login=2, server="S", password="secret", terminal=terminal)
made = call("set_account", account="made", body=settings, expect=201)
assert made.headers["location"] == "/api/v1/accounts/made" and "secret" not in made.content.decode()
assert call("set_account", account="made", body=settings).parsed.login == 2
assert call("pause", account="made").parsed.paused is True
assert call("resume", account="made").parsed.paused is False
call("remove_account", account="made", force=True, expect=204)
unstored = call("remove_account", expect=409).parsed
assert unstored.type_ == models.ProblemType("/problems/account-not-stored"), unstored

# The red button
assert call("halt").parsed.halted is False
halted = call("halt_account", cancel_orders=True).parsed
assert halted.halted and halted.kept and halted.halt_of_all is None and halted.problem is None, halted
refused = call("place_order", **{**named, "idempotency_key": "halted"}, expect=403)
assert json.loads(refused.content)["reasons"] == ["halted"], refused.content
assert call("lift").parsed.halted is False
everything = call("halt_all").parsed
assert everything.kept and {of.account for of in everything.accounts} >= {"demo"}, everything
assert call("halts").parsed.halt_of_all is not None
assert not any(of.halted for of in call("lift_all").parsed.accounts)
rehearsed = call("place_order", body=named["body"], dry_run=True).parsed
assert rehearsed.dry_run and rehearsed.check.retcode_name == "ok", rehearsed

missed = TAGS.keys() - called
assert not missed, f"not called: {missed}"
print(f"{len(called)} operations")
