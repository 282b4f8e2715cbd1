/*
 * The page of a bulk operation: processes it, or shows what other pages and workers do.
 *
 * Only the page that answered the confirmation or Continue has a key, and the server runs a slice only for that key. The
 * key is kept in this page, so a reload or another visit does not have it. The server decides everything; closing the
 * page pauses the operation, and nothing is lost.
 */
"use strict";
{
    const LOOK_MS = 1500;
    const IDLE_MS = 5000;
    const RETRY_MS = 5000;
    const MAX_SLEEP_MS = 15000;

    let key = "";
    let mustWait = false;
    /* Counts the clicks. A response that was requested before a click is outdated, and is ignored. */
    let clicks = 0;
    let wake = () => {};

    const box = () => document.getElementById("bulk-operation");

    const sleep = (ms) => new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        wake = () => {
            clearTimeout(timer);
            resolve();
        };
    });

    const setText = (id, text) => {
        const element = document.getElementById(id);
        if (element && element.textContent !== text) {
            element.textContent = text;
        }
    };

    const announce = (text) => setText("bo-live", text);

    // -- requests ------------------------------------------------------------------------------------------------

    const send = async (url, accept, options = {}) => {
        const headers = {"Accept": accept, "X-CSRFToken": box().dataset.csrf};
        if (key) {
            headers["X-Operation-Key"] = key;
        }
        const response = await fetch(url, {credentials: "same-origin", headers, ...options});
        if (response.status >= 500) {
            throw new Error(String(response.status));
        }
        if (!response.ok || !(response.headers.get("Content-Type") || "").startsWith(accept)) {
            return null;
        }
        return response;
    };

    /* Logged out, or no longer permitted: show the page that says so. */
    const leave = () => {
        location.assign(box().dataset.page);
        return new Promise(() => {});
    };

    const readState = async (url, options) => {
        const response = await send(url, "application/json", options);
        return response ? response.json() : leave();
    };

    const poll = () => readState(`${box().dataset.page}?format=json`);

    const runSlice = () => readState(box().dataset.run, {method: "POST"});

    // -- the page ------------------------------------------------------------------------------------------------

    /* Replace the content by that of a response. The focus moves only if it would be lost. */
    const replace = (html, isOwn = false) => {
        const fresh = new DOMParser().parseFromString(html, "text/html");
        const content = fresh.querySelector(".bulk-operation");
        if (!content || !content.querySelector("#bulk-operation")) {
            return leave();
        }
        const current = document.querySelector(".bulk-operation");
        const hadFocus = current.contains(document.activeElement);
        document.querySelectorAll(".messagelist").forEach((list) => list.remove());
        const list = fresh.querySelector(".messagelist");
        const main = document.getElementById("content");
        if (list && main) {
            main.before(document.adoptNode(list));
        }
        current.replaceWith(document.adoptNode(content));
        document.title = fresh.title;
        key = box().dataset.key;
        mustWait = false;
        const headline = document.getElementById("bo-headline");
        const sentence = document.getElementById("bo-sentence");
        announce([headline, sentence].map((element) => (element ? element.textContent : "")).join(" ").trim());
        if (isOwn || hadFocus) {
            headline.focus();
        }
    };

    const refresh = async () => {
        const isHere = location.pathname === new URL(box().dataset.page, location.href).pathname;
        const before = clicks;
        const response = await send(isHere ? location.href : box().dataset.page, "text/html");
        const html = response ? await response.text() : "";
        if (clicks === before) {
            await replace(html);
        }
    };

    const show = (now, isOwnSlice = false) => {
        const bar = document.getElementById("bo-bar");
        if (!bar) {
            return;
        }
        bar.max = now.total;
        bar.value = now.done;
        bar.textContent = now.amount_done;
        document.title = now.tab_title;
        setText("bo-headline", now.amount_done);
        if (!(isOwnSlice && now.is_leased_elsewhere)) {  // this page has leased them
            setText("bo-sentence", now.sentence);
        }
        document.getElementById("bo-counts").replaceChildren(...now.counts.map((row) => {
            const line = document.createElement("li");
            const count = document.createElement("b");
            line.className = `bo-${row.outcome}`;
            count.textContent = row.count;
            line.append(`${row.label}: `, count);
            return line;
        }));
    };

    const hasChanged = (now) => now.state !== box().dataset.state || now.changed_by !== box().dataset.changedBy;

    // -- the work ------------------------------------------------------------------------------------------------

    /* Show the progress while a slice is processed, and a stop by another page at once. */
    const pollDuring = async (slice) => {
        let isOver = false;
        slice.finally(() => { isOver = true; }).catch(() => {});
        for (;;) {
            await Promise.race([sleep(LOOK_MS), slice.catch(() => {})]);
            if (isOver) {
                return slice;
            }
            const before = clicks;
            const now = await poll().catch(() => null);
            if (now && !isOver && clicks === before) {
                await (hasChanged(now) ? refresh() : show(now, true));
            }
        }
    };

    const step = async () => {
        const mode = box().dataset.mode;
        if (mode === "idle" && document.hidden) {
            return IDLE_MS;
        }
        const before = clicks;
        const now = await (mode === "drive" && !mustWait ? pollDuring(runSlice()) : poll());
        if (clicks !== before) {
            return 0;
        }
        if (hasChanged(now)) {
            await refresh();
            return box().dataset.mode === "drive" ? 0 : LOOK_MS;
        }
        show(now);
        mustWait = now.wait_seconds > 0;
        const interval = {drive: 0, watch: LOOK_MS}[mode] ?? IDLE_MS;
        return Math.max(interval, Math.min(now.wait_seconds * 1000, MAX_SLEEP_MS));
    };

    const work = async () => {
        for (;;) {
            let pause = RETRY_MS;
            try {
                pause = await step();
            } catch {
                setText("bo-sentence", box().dataset.lost);
                announce(box().dataset.lost);
            }
            await sleep(pause);
        }
    };

    let isSubmitting = false;

    const submit = async (form) => {
        isSubmitting = true;
        clicks += 1;
        try {
            const response = await send(form.action, "text/html", {method: "POST", body: new FormData(form)});
            const html = response ? await response.text() : "";
            clicks += 1;
            await replace(html, true);
            wake();
        } catch {
            setText("bo-sentence", box().dataset.lost);
            announce(box().dataset.lost);
        } finally {
            isSubmitting = false;
        }
    };

    if (box()) {
        key = box().dataset.key;
        if (location.pathname !== new URL(box().dataset.page, location.href).pathname) {
            history.replaceState(null, "", box().dataset.page);  // a reload is a GET then
        }
        document.addEventListener("submit", (event) => {
            const form = event.target.closest("#bulk-operation form[data-in-place]");
            if (form) {
                event.preventDefault();
                if (!isSubmitting) {
                    submit(form);
                }
            }
        });
        window.addEventListener("pagehide", () => {
            if (key) {
                send(box().dataset.release, "text/html", {method: "POST", keepalive: true}).catch(() => {});
            }
        });
        work();
    }
}
