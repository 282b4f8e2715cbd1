/*
 * Drives a bulk operation, or watches it: a POST a slice, a look in between. The server decides everything; closing
 * the page pauses, and nothing is lost. Without this script the button Continue does the same, a slice a click.
 */
"use strict";
{
    const LOOK_MS = 1500;
    const RETRY_MS = 5000;
    const LONGEST_SLEEP_MS = 15000;

    const box = document.getElementById("bulk-operation");
    const bar = document.getElementById("bo-bar");
    const run = document.getElementById("bo-run");

    const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

    const ask = async (url, options) => {
        const answer = await fetch(url, {credentials: "same-origin", headers: {"Accept": "application/json"}, ...options});
        const type = answer.headers.get("Content-Type") || "";
        if (answer.status >= 500) {
            throw new Error(String(answer.status));
        }
        if (!answer.ok || !type.startsWith("application/json")) {
            location.reload();  // logged out, or not permitted any more: the page itself says so
            return new Promise(() => {});
        }
        return answer.json();
    };

    const doSlice = () => {
        const token = run.querySelector("[name=csrfmiddlewaretoken]").value;
        return ask(box.dataset.run, {method: "POST", headers: {"Accept": "application/json", "X-CSRFToken": token}});
    };

    const say = (id, text) => {
        const place = document.getElementById(id);
        if (place.textContent !== text) {
            place.textContent = text;
        }
    };

    const show = (now, isOurs = false) => {
        if (now.state !== box.dataset.state) {
            location.reload();
            return false;
        }
        bar.max = now.total;
        bar.value = now.done;
        bar.textContent = now.amount_done;
        document.title = now.tab_title;
        say("bo-amount", now.amount_done);
        if (!(isOurs && now.is_leased_elsewhere)) {  // what is in hand is in ours
            say("bo-sentence", now.sentence);
        }
        document.getElementById("bo-counts").replaceChildren(...now.counts.map((row) => {
            const line = document.createElement("li");
            const count = document.createElement("b");
            line.className = `bo-${row.outcome}`;
            count.textContent = row.count;
            line.append(`${row.label}: `, count);
            return line;
        }));
        return true;
    };

    /* Look at the progress while a slice is under way; what the slice itself answers comes last. */
    const lookUntil = async (slice) => {
        let isOver = false;
        slice.finally(() => { isOver = true; }).catch(() => {});
        for (;;) {
            await Promise.race([sleep(LOOK_MS), slice.catch(() => {})]);
            if (isOver) {
                return slice;
            }
            const now = await ask(box.dataset.poll).catch(() => null);
            if (now && !isOver && now.state === box.dataset.state) {
                show(now, true);
            }
        }
    };

    const step = (waits) => {
        if (box.dataset.mode === "drive" && !waits) {
            return lookUntil(doSlice());
        }
        return ask(box.dataset.poll);
    };

    const work = async () => {
        let waits = false;
        for (;;) {
            let pause = box.dataset.mode === "drive" ? 0 : LOOK_MS;
            try {
                const now = await step(waits);
                if (!show(now)) {
                    return;
                }
                waits = now.wait_seconds > 0;
                pause = Math.max(pause, Math.min(now.wait_seconds * 1000, LONGEST_SLEEP_MS));
            } catch {
                say("bo-sentence", box.dataset.lost);
                pause = RETRY_MS;
            }
            await sleep(pause);
        }
    };

    if (box && bar && box.dataset.mode) {
        if (run) {
            run.hidden = true;
        }
        work();
    }
}
