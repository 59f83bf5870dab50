"use strict";
// Everything that comes from the data is set as text, never as markup.

const queries = JSON.parse(document.getElementById("data").textContent);
const list = document.getElementById("list");
const article = document.getElementById("query");
const words = document.getElementById("words");
const haystacks = queries.map((query) =>
  [query.query_id, query.query, ...query.passages.flatMap((passage) => [passage.passage_id, passage.title, passage.text])]
    .join("\n").toLowerCase());
let current = -1;

function add(parent, tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = String(text);
  if (className) made.className = className;
  parent.append(made);
  return made;
}

function isShown(query, number, kind, needle) {
  if (kind === "failed" && query.status === "ok") return false;
  if (kind === "disputed" && (query.status !== "ok" || query.marks.length === 0)) return false;
  return haystacks[number].includes(needle);
}

function showList() {
  const kind = document.querySelector("input[name=kind]:checked").value;
  const needle = words.value.trim().toLowerCase();
  list.replaceChildren();
  let count = 0;
  queries.forEach((query, number) => {
    if (!isShown(query, number, kind, needle)) return;
    count += 1;
    const button = add(add(list, "li"), "button", query.query);
    button.type = "button";
    button.setAttribute("aria-current", String(number === current));
    const marks = query.status === "ok" ? query.marks : [query.status];
    marks.forEach((mark) => add(button, "span", mark, "mark"));
    button.addEventListener("click", () => choose(number, button));
  });
  document.getElementById("shown").textContent = `${count} of the ${queries.length} queries on this page`;
}

function choose(number, button) {
  current = number;
  list.querySelectorAll("button").forEach((other) => other.setAttribute("aria-current", String(other === button)));
  showQuery(queries[number]);
  article.focus();
}

function showQuery(query) {
  article.replaceChildren();
  add(article, "h3", query.query);
  const facts = add(article, "dl");
  addFact(facts, "query", query.query_id);
  addFact(facts, "status", query.detail ? `${query.status}: ${query.detail}` : query.status);
  addFact(facts, "disagreements", query.marks.join("; "));
  addFact(facts, "human answers", query.answers.join(" | "));
  addFact(facts, "pseudo-answer", query.pseudo_answer);
  addFact(facts, "attempts", query.attempts);
  addFact(facts, "passages cut", query.passages_cut);
  query.passages.forEach((passage, position) => showPassage(passage, position + 1));
  showTraces(query.traces);
}

function addFact(facts, name, value) {
  if (value === null || value === undefined || value === "") return;
  add(facts, "dt", name);
  add(facts, "dd", value);
}

function showPassage(passage, position) {
  const box = add(article, "section", null, passage.is_positive ? "passage positive" : "passage");
  add(box, "h4", `[${position}] ${passage.title || passage.passage_id}`);
  const said = add(box, "p");
  if (passage.is_positive === null) add(said, "span", "no verdict");
  else if (passage.is_positive) add(said, "span", "judge: positive", "good");
  else add(said, "span", "judge: not positive");
  verdicts(passage).forEach((verdict) => said.append(" · " + verdict));
  if (passage.human_label > 0) {
    said.append(" · ");
    add(said, "span", `human label ${passage.human_label}`, passage.is_positive === false ? "bad" : "good");
  } else {
    said.append(passage.human_label === null ? " · no human label" : ` · human label ${passage.human_label}`);
  }
  add(box, "p", passage.text);
  add(box, "p", `${passage.passage_id} · found by ${passage.found_by.join(", ") || "nobody"}`, "quiet");
}

function verdicts(passage) {
  const found = [];
  if (passage.utility_score !== null) found.push(`score ${passage.utility_score.toFixed(3)}`);
  if (passage.utility_rank !== null) found.push(`utility rank ${passage.utility_rank}`);
  if (passage.is_useful !== null) found.push(passage.is_useful ? "useful" : "not useful");
  if (passage.is_relevant !== null) found.push(passage.is_relevant ? "relevant" : "not relevant");
  if (passage.other_is_positive !== null) {
    found.push(passage.other_is_positive ? "other judge: positive" : "other judge: not positive");
  }
  return found;
}

function showTraces(traces) {
  const details = add(article, "details");
  details.open = traces.length <= 6;
  add(details, "summary", `Calls to the judge (${traces.length})`);
  traces.forEach((trace) => {
    const window_ = trace.window === null ? "" : `, window ${trace.window}`;
    const passage = trace.passage_id === null ? "" : `, passage ${trace.passage_id}`;
    add(details, "h4", `${trace.round}${window_}${passage}, attempt ${trace.attempt}`);
    add(details, "p",
      `${trace.finish_reason}; ${trace.prompt_tokens} prompt tokens (${trace.cached_tokens} cached), ` +
      `${trace.output_tokens} output tokens, ${trace.seconds.toFixed(2)} s`, "quiet");
    if (trace.reasoning !== null) {
      const reasoning = add(details, "details");
      add(reasoning, "summary", "Reasoning");
      add(reasoning, "pre", trace.reasoning);
    }
    if (trace.reply !== null) add(details, "pre", trace.reply);
  });
}

document.querySelectorAll("input[name=kind]").forEach((input) => input.addEventListener("change", showList));
words.addEventListener("input", showList);
if (queries.length > 0) {
  current = 0;
  showQuery(queries[current]);
}
showList();
