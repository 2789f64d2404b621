// The operator's page. Everything that came from outside is set as text, never as markup.
"use strict";

function rows(id, items, cells, none) {
  const body = document.getElementById(id);
  body.replaceChildren();
  for (const item of items) {
    const row = body.insertRow();
    for (const cell of cells(item)) {
      const [text, kind] = Array.isArray(cell) ? cell : [cell, ""];
      const td = row.insertCell();
      td.textContent = text;
      td.className = kind;
    }
  }
  if (!items.length) body.insertRow().insertCell().textContent = none;
}

function words(object) {
  return Object.entries(object).map(([name, value]) => `${name} ${value}`).join(", ");
}

function note(texts) {
  document.getElementById("notes").replaceChildren(...texts.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

function show(data) {
  note(data.notes);
  rows("ledger", data.ledger, (l) => [
    l.pixel, l.accepted, l.delivered, l.merged, words(l.dropped) || 0, l.dead, l.pending,
    l.adds_up ? "yes" : ["no", "dead"],
  ], "No event was accepted yet.");
  rows("dead", data.dead, (d) => [d.ref, d.event_name, d.event_id, d.reason], "None.");
  rows("events", data.events, (e) => [
    new Date(e.at_ms).toLocaleTimeString(), e.event_name, e.source, [e.outcome, e.outcome],
    e.reason, e.user_data.join(" "),
    [words(e.custom_data), e.agent, ...e.warnings].filter(Boolean).join(" · "),
  ], "Nothing yet: paste the tag into a page and open it.");
}

async function refresh() {
  try {
    const response = await fetch("/api/overview");
    const data = await response.json();
    if (response.ok) show(data);
    else note([`The store cannot be read: ${data.error}. Below is what it said last.`]);
  } catch {
    note(["The gateway does not answer. Below is what it said last."]);
  } finally {
    setTimeout(refresh, 3000);
  }
}

refresh();
