-- One OneSignal push event per request, each with an id of its own.
-- Arguments: path, token, a prefix that makes the ids of this run unique, and perhaps the
-- milliseconds each connection waits before a request.
local path, token, prefix
local pause_ms = 0
local thread_number = 0

function setup(thread)
    thread:set("number", thread_number)
    thread_number = thread_number + 1
end

function init(args)
    path, token, prefix = args[1], args[2], args[3]
    pause_ms = tonumber(args[4] or 0)
    count = 0
    headers = { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }
end

local head = [[{"relay_template":1,"event":{"kind":"message.push.clicked","id":"]]
local middle = [[","timestamp":"1767261906","datetime":"2026-01-01T10:05:06.412Z","app_id":"11111111-2222-4333-8444-555555555555","subscription_device_type":"iOS","subscription_id":"a3f1c8d2-77b0-4f0b-8a51-]]
local tail = [[","onesignal_id":"c0ffee00-1d1d-4a4a-9c9c-0123456789ab","external_id":"user-]]
local rest = [[","data":{"page_name":"","page_id":"","target_name":"","target_id":"","failure_reason":""}},"message":{"id":"9a4b2f10-6c1d-4a77-8e25-2f3f0a9d7e01","name":"new-year-offer","title":"Happy new year","contents":"20% off everything until Sunday, only in the app a","template_id":"e1a2b3c4-0d0d-4e4e-8f8f-aabbccddeeff","url":"","app_url":"shop://offers/ny","web_url":""},"user":{"language":"de","subscription":{"language":"de"}}}]]

function request()
    count = count + 1
    local id = string.format("%s-%04d-%010d", prefix, number, count)
    local device = string.format("%012d", (count * 7919) % 50000)
    return wrk.format("POST", path, headers, head .. id .. middle .. device .. tail .. device .. rest)
end

function delay()
    return pause_ms
end
