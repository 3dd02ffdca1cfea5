// The part of the dashboard that runs in the browser: page titles, uploads and previews, the gallery, the age of data, and
// a banner that appears while the dashboard does not respond.
(function () {
    "use strict";
    const IMAGES_MAX = 20, BYTES_MAX = 100e6, CHECK_MS = 5000, IN_USE_MS = 10000, RETRY_MS = 2000;
    const noUpdate = () => window.dash_clientside.no_update;
    const previews = {};
    let isFirstPage = true, drawn = "", lastUse = 0, stream = null, followed = new Set();

    function openPage(path) {
        const link = Array.from(document.querySelectorAll("nav a")).find((a) => a.getAttribute("href") === path);
        document.title = link ? `${link.textContent} · Pawqueue` : "Pawqueue";
        if (!isFirstPage) {
            document.getElementById("content").focus({preventScroll: true});
            window.scrollTo(0, 0);
        }
        isFirstPage = false;
    }

    function readImages(contents, names) {
        if (!contents || !contents.length) {
            return [noUpdate(), noUpdate()];
        }
        const kept = contents.slice(0, IMAGES_MAX);
        if (kept.reduce((sum, text) => sum + text.length, 0) > BYTES_MAX * 4 / 3) {
            return [noUpdate(), "These images exceed 100 MB in total. Choose fewer, or use pawqueue submit."];
        }
        const stamp = Date.now();
        const images = kept.map((text, at) => {
            const key = `${stamp}-${at}`;
            previews[key] = text;
            return {key: key, name: names[at], contents: text};
        });
        return [images, kept.length < contents.length ? `Only the first ${IMAGES_MAX} images were uploaded. Upload the rest afterwards, or use pawqueue submit.` : ""];
    }

    function mergeEntries(uploaded, updated, entries) {
        const known = new Map((entries || []).map((entry) => [entry.key, entry]));
        const states = new Map((updated || []).map((state) => [state.job_id, state]));
        for (const entry of known.values()) {
            known.set(entry.key, Object.assign({}, entry, states.get(entry.job_id)));
        }
        const fresh = (uploaded || []).filter((entry) => !known.has(entry.key));
        return [...fresh, ...known.values()];
    }

    // Receive the changes of all pending jobs through one stream, because a browser opens only six connections. The list
    // of changes grows: Dash may skip a value that is replaced quickly.
    function followJobs(entries) {
        const pending = (entries || []).filter((entry) => ["queued", "running"].includes(entry.status));
        const ids = pending.map((entry) => entry.job_id);
        const isOpen = stream && stream.readyState !== EventSource.CLOSED;
        if (isOpen && ids.every((id) => followed.has(id))) {
            return;
        }
        if (stream) {
            stream.close();
        }
        if (!ids.length) {
            return;
        }
        const states = new Map(), opened = new EventSource(`${root()}try/events?${ids.map((id) => `job=${id}`).join("&")}`);
        const update = () => {
            if (stream === opened && document.getElementById("try-results")) {
                window.dash_clientside.set_props("try-updated", {data: [...states.values()]});
            } else {
                opened.close();  // another page is open
            }
        };
        stream = opened;
        followed = new Set(ids);
        opened.onmessage = (event) => {
            const state = JSON.parse(event.data);
            states.set(state.job_id, state);
            update();
        };
        opened.addEventListener("end", () => opened.close());
        opened.onerror = () => {
            if (opened.readyState === EventSource.CLOSED) {
                window.setTimeout(update, RETRY_MS);  // refused, for example while the service is busy: open another one
            }
        };
    }

    function showPreviews(_results, ids) {
        return ids.map((id) => previews[id.key] || "");
    }

    // Hide the preview of a file that the browser cannot show. Dash reuses elements, so show it when another loads.
    function updatePreview(event) {
        if (event.target.matches && event.target.matches(".preview")) {
            event.target.hidden = event.type === "error";
        }
    }

    // Dash replaces all tiles at every refresh. That would move the tile under the pointer and lose the focus, so the
    // gallery is not redrawn while it is in use or the details of a job are open.
    function drawGallery(found) {
        const gallery = document.getElementById("predictions-gallery");
        if (!gallery) {
            return [noUpdate(), noUpdate()];
        }
        const isSame = gallery.dataset.search === found.search && gallery.childElementCount > 0;
        if (isSame && JSON.stringify(found.tiles) === drawn) {
            return [noUpdate(), "paused"];
        }
        if (isSame && isInUse(gallery)) {
            return [noUpdate(), "paused is-paused"];
        }
        keepFocus(gallery);
        gallery.dataset.search = found.search;
        drawn = JSON.stringify(found.tiles);
        return [found.tiles, "paused"];
    }

    // After a touch, browsers keep reporting :hover, and the focus stays on the last tile: neither counts as use.
    function isInUse(gallery) {
        const isHovered = window.matchMedia("(hover: hover)").matches && gallery.matches(":hover");
        return isHovered || Date.now() - lastUse < IN_USE_MS || document.querySelector("[role=dialog]") !== null;
    }
    function noteUse(event) {
        if (event.target.closest && event.target.closest("#predictions-gallery")) {
            lastUse = Date.now();
        }
    }

    // After a redraw, focus the tile of the same job, or the gallery if that job is no longer shown.
    function keepFocus(gallery) {
        const focused = gallery.querySelector(":focus");
        if (!focused) {
            return;
        }
        const href = focused.getAttribute("href"), focusVisible = focused.matches(":focus-visible");
        const observer = new MutationObserver(() => {
            if (focused.isConnected) {
                return;
            }
            observer.disconnect();
            const same = Array.from(gallery.querySelectorAll("a")).find((a) => a.getAttribute("href") === href);
            (same || gallery).focus({preventScroll: true, focusVisible: focusVisible});
        });
        observer.observe(gallery, {childList: true, subtree: true});
    }

    // The input inside Dash's upload component has no accessible name.
    function labelUploadInput() {
        const input = document.querySelector("#try-upload input[type=file]:not([aria-label])");
        if (input) {
            input.setAttribute("aria-label", "Images to upload");
        }
    }

    window.dash_clientside = Object.assign({}, window.dash_clientside, {
        pawqueue: {openPage, readImages, mergeEntries, followJobs, showPreviews, drawGallery},
    });

    // The dashboard's URL prefix; it ends with a slash.
    const root = () => JSON.parse(document.getElementById("_dash-config").textContent).requests_pathname_prefix;
    let downSince = null;
    async function checkDashboard() {
        let responds = false;
        try {
            responds = (await fetch(`${root()}healthz`, {cache: "no-store"})).ok;
        } catch (error) {
            responds = false;
        }
        const banner = document.getElementById("offline");
        if (!banner) {
            return;
        }
        downSince = responds ? null : downSince || new Date();
        banner.hidden = responds;
        const clock = downSince && downSince.toISOString().slice(11, 16);
        banner.textContent = responds ? "" : `The dashboard has not responded since ${clock} UTC. The data on this page is not being updated.`;
    }
    function showAges() {
        for (const time of document.querySelectorAll("time.age")) {
            const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time.dateTime)) / 1000));
            time.dataset.age = seconds < 120 ? `, ${seconds} s ago` : `, ${Math.round(seconds / 60)} min ago`;
        }
    }
    document.addEventListener("error", updatePreview, true);  // these events do not bubble
    document.addEventListener("load", updatePreview, true);
    document.addEventListener("keyup", noteUse);  // after Tab, the target is the newly focused element
    document.addEventListener("pointerdown", noteUse);
    window.setInterval(showAges, 1000);
    window.setInterval(labelUploadInput, 1000);
    window.setInterval(checkDashboard, CHECK_MS);
})();
