// Callbacks that run in the browser: page titles, uploads and previews, the gallery; and a banner when the dashboard is down.
(function () {
    "use strict";
    const IMAGES_MAX = 20, BYTES_MAX = 100e6, CHECK_MS = 5000, IN_USE_MS = 10000;
    const noUpdate = () => window.dash_clientside.no_update;
    const previews = {};
    let isFirstPage = true, drawn = "", lastUse = 0;

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
            return [noUpdate(), "These images exceed 100 MB. Choose fewer, or use pawqueue submit."];
        }
        const stamp = Date.now();
        const images = kept.map((text, at) => {
            const key = `${stamp}-${at}`;
            previews[key] = text;
            return {key: key, name: names[at], contents: text};
        });
        return [images, kept.length < contents.length ? `Only the first ${IMAGES_MAX} images were uploaded, the maximum at a time.` : ""];
    }

    function mergeEntries(uploaded, updated, entries) {
        const known = new Map((entries || []).map((entry) => [entry.key, entry]));
        for (const entry of updated || []) {
            if (known.has(entry.key)) {
                known.set(entry.key, entry);
            }
        }
        const fresh = (uploaded || []).filter((entry) => !known.has(entry.key));
        return [...fresh, ...known.values()];
    }

    function showPreviews(_results, ids) {
        return ids.map((id) => previews[id.key] || "");
    }

    // Dash replaces all tiles at every refresh, which would move the one under the pointer and lose the focus. So the
    // gallery is not redrawn while it is in use or a job is open.
    function drawGallery(found) {
        const gallery = document.getElementById("predictions-gallery");
        if (!gallery) {
            return [noUpdate(), noUpdate()];
        }
        const isSame = gallery.dataset.search === found.search && gallery.childElementCount > 0;
        if (isSame && JSON.stringify(found.tiles) === drawn) {
            return [noUpdate(), "held"];
        }
        if (isSame && isInUse(gallery)) {
            return [noUpdate(), "held is-held"];
        }
        keepFocus(gallery);
        gallery.dataset.search = found.search;
        drawn = JSON.stringify(found.tiles);
        return [found.tiles, "held"];
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

    // After a redraw, focus the same job again, or the gallery if the job is no longer shown.
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
    function nameInput() {
        const input = document.querySelector("#try-upload input[type=file]:not([aria-label])");
        if (input) {
            input.setAttribute("aria-label", "Images to upload");
        }
    }

    window.dash_clientside = Object.assign({}, window.dash_clientside, {
        pawqueue: {openPage, readImages, mergeEntries, showPreviews, drawGallery},
    });

    let downSince = null;
    async function check() {
        let responds = false;
        try {
            responds = (await fetch("/healthz", {cache: "no-store"})).ok;
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
        banner.textContent = responds ? "" : `The dashboard has not responded since ${clock} UTC. The data on this page is out of date.`;
    }
    function age() {
        for (const time of document.querySelectorAll("time.age")) {
            const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time.dateTime)) / 1000));
            time.dataset.age = seconds < 120 ? `, ${seconds} s ago` : `, ${Math.round(seconds / 60)} min ago`;
        }
    }
    document.addEventListener("keyup", noteUse);  // for a Tab key, its target is the newly focused element
    document.addEventListener("pointerdown", noteUse);
    window.setInterval(age, 1000);
    window.setInterval(nameInput, 1000);
    window.setInterval(check, CHECK_MS);
})();
